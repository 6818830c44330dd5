"""Photographs to train on: odd ones are read as everywhere, and the unreadable one is named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from compressai_gen.errors import ImageError
from compressai_gen.training.data import PhotoCrops


@pytest.fixture
def photo():
    return Image.fromarray(photographs.chelsea()[100:228, 100:260])


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def whole(folder):
    """The one picture of a folder as it is cropped, uint8 (H, W, 3)."""
    crops = PhotoCrops(folder, 64)
    return crops._pixels(crops.files[0])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp"])
def test_an_ordinary_photograph_is_what_pillow_decodes(photo, tmp_path, suffix):
    photo.save(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert np.array_equal(whole(tmp_path), np.asarray(image.convert("RGB")))


def test_sixteen_bit_grey_is_not_white(tmp_path):
    ramp = np.linspace(0, 65535, 128 * 128).reshape(128, 128)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "grey.png")
    assert np.abs(whole(tmp_path)[..., 1] - ramp / 257).max() <= 0.51
    assert (PhotoCrops(tmp_path, 64)[3] == 1).float().mean() < 0.1


def test_a_camera_held_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    (tmp_path / "a.jpg").write_bytes(jpeg(photo, exif=exif))
    assert whole(tmp_path).shape == (160, 128, 3)


def test_what_is_transparent_is_white(photo, tmp_path):
    photo.putalpha(Image.new("L", photo.size, 0))
    photo.save(tmp_path / "a.png")
    assert (whole(tmp_path) == 255).all()


def test_a_folder_with_a_pictures_name(photo, tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    photo.save(tmp_path / "folder.jpg" / "a.png")
    assert [file.name for file in PhotoCrops(tmp_path, 64).files] == ["a.png"]


def test_a_text_with_a_pictures_name(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    (tmp_path / "note.jpg").write_text("hello")
    with pytest.raises(ImageError, match=r"note\.jpg: not a picture .* take it away") as told:
        PhotoCrops(tmp_path, 64)
    assert "\n" not in str(told.value)


def test_a_photograph_that_was_cut_off(photo, tmp_path):
    content = jpeg(photo)
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    crops = PhotoCrops(tmp_path, 64)
    with pytest.raises(ImageError, match=r"cut\.jpg: the picture is damaged .* take it away"):
        crops[0]
