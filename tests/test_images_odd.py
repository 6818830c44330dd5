"""Odd picture files and images: damaged, deep, animated, and too large for their format."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image
from test_images import PICTURE, encoded, png_16_bit_rgb

from compressai_gen.errors import ImageError, OptionError
from compressai_gen.images import read_image, to_tensor, write_image
from compressai_gen.notes import ImageNote


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def tiff_without_a_second_page() -> bytes:
    """A TIFF file that says where its next page is, but there is none: Pillow's TypeError."""
    data = bytearray(encoded(PICTURE, "TIFF"))
    data[130] = 1
    return bytes(data)


def test_damaged_files():
    with pytest.raises(ImageError, match="damaged"):
        read_image(tiff_without_a_second_page())
    with pytest.raises(ImageError, match="damaged"):
        to_tensor(opened(encoded(PICTURE)[:-40]))


def test_an_opened_file_loses_its_depth_with_a_warning():
    with pytest.warns(ImageNote, match="more than 8 bits"):
        assert to_tensor(opened(png_16_bit_rgb())).shape == (1, 3, 1, 2)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_opened_animations_and_pages_are_refused(format: str):
    image = opened(encoded(PICTURE, format, save_all=True, append_images=[PICTURE.rotate(180)]))
    with pytest.raises(ImageError, match="2 frames"):
        to_tensor(image)
    image.load()
    with pytest.raises(ImageError, match="2 frames"):
        to_tensor(image)


@pytest.mark.parametrize(("extension", "width"), [(".webp", 16384), (".jpg", 65501)])
def test_a_picture_too_large_for_its_format(extension: str, width: int):
    with pytest.raises(OptionError, match=rf"{width}x1 .*WEBP holds 16383 .*JPEG 65500;"):
        write_image(Image.new("RGB", (width, 1)), extension)
    assert read_image(write_image(Image.new("RGB", (width - 1, 1)), extension)).image.height == 1


def test_the_limit_of_pixels_is_ours_and_not_pillows():
    huge = bytearray(encoded(PICTURE.convert("L"), "BMP"))
    huge[18:26] = struct.pack("<II", 20_000, 10_000)
    with pytest.raises(ImageError, match=r"20000x10000 .* at most 67108864 .*--max-pixels"):
        read_image(bytes(huge))
    with pytest.raises(ImageError, match="cut off"):
        read_image(bytes(huge), max_pixels=2 * 10**8)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(huge))
