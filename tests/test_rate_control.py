"""A file of a wanted rate or PSNR."""

from __future__ import annotations

import numpy as np
import pytest
from small_codec import codec as codec
from small_codec import image as image

from compressai_gen.codec import rate_control
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import OptionError


def test_bits_per_pixel(codec: ModelCodec, image: np.ndarray):
    encode, area = codec.encoder(image), 70 * 90
    smallest, largest = (8 * len(encode(q)) / area for q in codec.quality_range)
    wanted = (smallest + largest) / 2
    reached = rate_control.reach_bpp(encode, codec.quality_range, area, wanted)
    assert reached.note is None
    assert 0.97 * wanted < reached.bpp <= wanted
    assert reached.data == encode(reached.quality)
    above = rate_control.reach_bpp(encode, codec.quality_range, area, 2 * largest)
    assert above.quality == 9
    assert "above the codec's range" in above.note
    with pytest.raises(OptionError, match="smallest file"):
        rate_control.reach_bpp(encode, codec.quality_range, area, smallest / 2)
    with pytest.raises(OptionError, match="above 0"):
        rate_control.reach_bpp(encode, codec.quality_range, area, -1)


def test_decibels():
    """On a codec whose PSNR is exactly 30 + 2 quality (random networks have no such order)."""
    original, tried = np.full((10, 10, 3), 100, np.uint8), []

    def decompress(data: bytes) -> np.ndarray:
        return original + 255 * 10 ** (-(30 + 2 * len(data) / 256) / 20)

    def compress(quality: float) -> bytes:
        tried.append(quality)
        return bytes(round(256 * quality))

    def reach(psnr: float) -> rate_control.Reached:
        return rate_control.reach_psnr(compress, decompress, (0, 9), original, psnr)

    assert 35 <= reach(35).psnr <= 35.02
    assert len(tried) == 3, "both ends and what a straight line suggests: each may be a fit"
    assert reach(20).quality == 0
    assert "below the codec's range" in reach(20).note
    with pytest.raises(OptionError, match=r"48\.00 dB"):
        reach(60)


def test_of_fits_that_jump_the_smallest_good_enough_is_taken():
    """Here, of files that only get smaller as the quality rises."""
    original, tried = np.full((10, 10, 3), 100, np.uint8), {}

    def compress(quality: float) -> bytes:
        data = bytes(5000 - round(256 * quality))
        tried[len(data)] = quality
        return data

    def decompress(data: bytes) -> np.ndarray:
        return original + 255 * 10 ** (-(30 + 2 * tried[len(data)]) / 20)

    reached = rate_control.reach_psnr(compress, decompress, (0, 9), original, 35)
    assert reached.quality == 9
    assert len(tried) > 3
