"""Real picture files in, 8-bit sRGB out: nothing is lost without a word."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from compressai_gen.errors import ImageError, OptionError
from compressai_gen.images import (
    WRITERS,
    from_tensor,
    read_image,
    to_rgb,
    to_tensor,
    write_image,
)
from compressai_gen.notes import ImageNote

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {})],
)
def test_plain_pictures_are_read_exactly_and_without_notes(format: str, options: dict):
    image, notes = read_image(encoded(PICTURE, format, **options))
    assert notes == []
    assert np.array_equal(image, PIXELS)


def test_jpeg():
    image, notes = read_image(encoded(PICTURE, "JPEG", quality=100, subsampling=0))
    assert notes == []
    assert np.abs(np.asarray(image).astype(int) - PIXELS).mean() < 3


@pytest.mark.parametrize("extension", sorted(WRITERS))
def test_what_is_written_can_be_read(extension: str):
    image, notes = read_image(write_image(PICTURE, extension))
    assert notes == []
    assert np.array_equal(image, PIXELS) or extension in (".jpg", ".jpeg")


def test_unknown_output_format():
    with pytest.raises(OptionError, match=r"\.gif.*\.png"):
        write_image(PICTURE, ".gif")


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_rounded_and_told(format: str):
    grey = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image, notes = read_image(encoded(Image.fromarray(grey), format))
    assert any("16 bits" in note for note in notes)
    assert any("greyscale" in note for note in notes)
    assert np.array_equal(np.asarray(image)[:, :, 0], np.rint(grey / 257))


def png_16_bit_rgb() -> bytes:
    """Pillow cannot write one, so by hand: 2x1 pixels, 16 bits, RGB."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 256, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )


def test_16_bit_rgb_is_reduced_and_told():
    image, notes = read_image(png_16_bit_rgb())
    assert notes == ["more than 8 bits a channel reduced to 8"]
    assert np.asarray(image).tolist() == [[[0, 128, 255], [255, 1, 0]]]


def test_float_pixels_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        read_image(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="32-bit"):
        read_image(encoded(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"))


@pytest.mark.parametrize("mode", ["L", "1"])
def test_greyscale_becomes_three_equal_channels(mode: str):
    image, notes = read_image(encoded(PICTURE.convert(mode)))
    assert notes == ["greyscale coded as three equal channels"]
    channels = np.asarray(image)
    assert (channels == channels[:, :, :1]).all()


def test_palette():
    image, notes = read_image(encoded(PICTURE.quantize(200)))
    assert notes == []
    assert image.mode == "RGB"


def with_alpha(mode: str, alpha: int) -> Image.Image:
    picture = PICTURE.convert(mode)
    picture.putalpha(Image.new("L", picture.size, alpha))
    return picture


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_only_if_opaque(mode: str):
    image, notes = read_image(encoded(with_alpha(mode, 255)))
    assert "fully opaque alpha channel dropped" in notes
    assert mode == "LA" or np.array_equal(image, PIXELS)
    with pytest.raises(ImageError, match="--background white"):
        read_image(encoded(with_alpha(mode, 254)))


def test_background():
    transparent = encoded(with_alpha("RGBA", 0))
    image, notes = read_image(transparent, background="#ff8000")
    assert np.asarray(image).reshape(-1, 3).tolist() == [[255, 128, 0]] * 54
    assert notes == ["transparent pixels put on #ff8000"]
    with pytest.raises(OptionError, match="nocolour"):
        read_image(transparent, background="nocolour")


@pytest.mark.parametrize(
    ("picture", "transparency"),
    [
        (PICTURE.quantize(16), 3),
        (PICTURE.convert("L"), int(np.asarray(PICTURE.convert("L"))[0, 0])),
    ],
)
def test_a_transparent_colour_counts_as_alpha(picture: Image.Image, transparency: int):
    with pytest.raises(ImageError, match="transparent"):
        read_image(encoded(picture, transparency=transparency))


def test_exif_orientation_is_applied_and_told():
    exif = Image.Exif()
    exif[0x0112] = 6  # camera turned: rotate by 270 degrees
    image, notes = read_image(encoded(PICTURE, exif=exif))
    assert np.array_equal(image, np.rot90(PIXELS, -1))
    assert notes == ["turned upright as its EXIF orientation says"]


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def test_srgb_profile_needs_no_conversion():
    image, notes = read_image(encoded(PICTURE, icc_profile=profile("sRGB")))
    assert notes == []
    assert np.array_equal(image, PIXELS)


def swapped_profile() -> bytes:
    """sRGB's profile with the primaries of red and green exchanged, under another name."""
    data = bytearray(profile("sRGB"))
    red, green = data.find(b"rXYZ"), data.find(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data).replace("sRGB".encode("utf-16-be"), "XRGB".encode("utf-16-be"))


def test_another_profile_is_converted_and_told():
    grey = np.full((8, 8, 3), 128, np.uint8)
    pure = grey.copy()
    pure[:] = (200, 40, 40)
    image, notes = read_image(encoded(Image.fromarray(pure), icc_profile=swapped_profile()))
    assert len(notes) == 1
    assert "colour profile" in notes[0]
    assert np.abs(np.asarray(image)[0, 0].astype(int) - (40, 200, 40)).max() < 12


def test_a_broken_profile_is_refused():
    with pytest.raises(ImageError, match="colour profile"):
        read_image(encoded(PICTURE, icc_profile=b"not a profile" * 20))


def test_cmyk_is_converted_and_told():
    _, notes = read_image(encoded(PICTURE.convert("CMYK"), "TIFF"))
    assert len(notes) == 1
    assert "CMYK" in notes[0]


def test_lab_is_refused():
    with pytest.raises(ImageError, match="LAB"):
        to_rgb(Image.new("LAB", (4, 4)))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(format: str):
    second = Image.fromarray(255 - PIXELS)
    data = encoded(PICTURE, format, save_all=True, append_images=[second])
    with pytest.raises(ImageError, match="2 frames"):
        read_image(data)


def test_the_first_picture_of_a_camera_file_is_used():
    data = encoded(PICTURE, "MPO", save_all=True, append_images=[PICTURE])
    image, notes = read_image(data)
    assert image.size == (9, 6)
    assert notes == ["the first of 2 pictures in the file is used"]


@pytest.mark.parametrize(
    "data", [b"", b"hello, I am a text", bytes(1000), b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50)]
)
def test_not_a_picture(data: bytes):
    with pytest.raises(ImageError):
        read_image(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_picture_cut_anywhere(format: str):
    noise = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(noise, format)
    for length in range(0, len(data) - 30, max(1, len(data) // 60)):
        with pytest.raises(ImageError):
            read_image(data[:length])


def test_too_many_pixels_are_refused_before_decoding():
    with pytest.raises(ImageError, match="--max-pixels"):
        read_image(encoded(PICTURE), max_pixels=53)


# -- tensors ------------------------------------------------------------------------------------


def test_tensor_and_back_is_exact():
    x = to_tensor(PICTURE)
    assert x.shape == (1, 3, 6, 9)
    assert x.dtype == torch.float32
    assert np.array_equal(from_tensor(x), PIXELS)
    assert np.array_equal(from_tensor(x, "np"), PIXELS)
    assert torch.equal(from_tensor(x, "pt"), x[0])
    assert torch.equal(to_tensor(PIXELS), x)
    assert torch.equal(to_tensor(x[0]), x)


def test_values_are_clamped_and_rounded():
    x = torch.tensor([-1.0, 0.5 / 255 + 1e-4, 2.0]).view(1, 3, 1, 1)
    assert from_tensor(x, "np").tolist() == [[[0, 1, 255]]]
    with pytest.raises(OptionError, match="latent"):
        from_tensor(x, "latent")


def test_a_pil_image_of_another_mode_is_converted_with_a_warning():
    with pytest.warns(ImageNote, match="greyscale"):
        assert to_tensor(PICTURE.convert("L")).shape == (1, 3, 6, 9)
    with pytest.raises(ImageError, match="transparent"):
        to_tensor(with_alpha("RGBA", 0))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 1.5),
        torch.full((3, 4, 4), float("nan")),
        "photo.png",
    ],
)
def test_other_pictures_are_refused(bad: object):
    with pytest.raises(ImageError):
        to_tensor(bad)
