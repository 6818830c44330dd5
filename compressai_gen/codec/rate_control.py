"""A file of at most so many bits per pixel, or a picture of at least so many dB.

Both searches keep a bracket and try the quality that a straight line through its ends suggests:
the logarithm of the rate, and the PSNR, are nearly linear in the quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compressai_gen.errors import OptionError

STEP = 1 / 256  # of a quality
CLOSE = 0.998  # a file this near below the budget ends the search
NEAR = 0.02  # as many dB above the target do


@dataclass(frozen=True)
class Reached:
    """A file that meets a target.

    Attributes:
        data: the file.
        quality: its rate point.
        bpp: bits per pixel of the original, header included.
        psnr: dB over 8-bit RGB, or None if it was not asked for.
        note: what to tell the user if the target is outside the codec's range, else None.
    """

    data: bytes
    quality: float
    bpp: float
    psnr: float | None = None
    note: str | None = None


def reach_bpp(
    compress: Callable[[float], bytes], quality_range: tuple[float, float], pixels: int, bpp: float
) -> Reached:
    """The best picture in at most ``bpp`` bits per pixel.

    Args:
        compress: quality to file.
        quality_range: lowest and highest quality.
        pixels: of the original.
        bpp: budget, more than 0, header included.

    Raises:
        OptionError: even the smallest file is larger.
    """
    if not bpp > 0:
        raise OptionError(f"--bpp {bpp:g}: give a number of bits per pixel above 0")

    def at(quality: float) -> Reached:
        data = compress(quality)
        return Reached(data, quality, 8 * len(data) / pixels)

    low, high = quality_range
    best = at(low)
    if best.bpp > bpp:
        raise OptionError(
            f"--bpp {bpp:g} cannot be reached: the smallest file, quality {low:g}, has "
            f"{best.bpp:.4f} bpp"
        )
    top = at(high)
    if top.bpp <= bpp:
        note = f"{bpp:g} bpp is above the codec's range: quality {high:g} takes {top.bpp:.4f}"
        return Reached(top.data, high, top.bpp, note=note)
    while high - low > STEP and best.bpp < CLOSE * bpp:
        place = math.log(0.999 * bpp / best.bpp) / math.log(top.bpp / best.bpp)
        middle = at(_between(low, high, place))
        if middle.bpp <= bpp:
            low, best = middle.quality, middle
        else:
            high, top = middle.quality, middle
    return best


def reach_psnr(
    compress: Callable[[float], bytes],
    decompress: Callable[[bytes], np.ndarray],
    quality_range: tuple[float, float],
    original: np.ndarray,
    psnr: float,
) -> Reached:
    """The smallest file whose picture has at least ``psnr`` dB.

    Args:
        compress: quality to file.
        decompress: file to uint8 picture (H, W, 3).
        quality_range: lowest and highest quality.
        original: uint8 (H, W, 3).
        psnr: target in dB, over 8-bit RGB.

    Raises:
        OptionError: even the best picture is worse.
    """
    pixels = original.shape[0] * original.shape[1]

    def at(quality: float) -> Reached:
        data = compress(quality)
        return Reached(data, quality, 8 * len(data) / pixels, _psnr(original, decompress(data)))

    low, high = quality_range
    best = top = at(high)
    if not _decibels(top) >= psnr:
        raise OptionError(
            f"--psnr {psnr:g} cannot be reached: the best picture, quality {high:g}, has "
            f"{top.psnr:.2f} dB"
        )
    bottom = at(low)
    if _decibels(bottom) >= psnr:
        note = f"{psnr:g} dB is below the codec's range: quality {low:g} has {bottom.psnr:.2f}"
        return Reached(bottom.data, low, bottom.bpp, bottom.psnr, note)
    while high - low > STEP and _decibels(best) > psnr + NEAR:
        rise = max(min(_decibels(top), 99) - _decibels(bottom), 0.01)
        middle = at(_between(low, high, (psnr + NEAR / 2 - _decibels(bottom)) / rise))
        if _decibels(middle) >= psnr:
            high, top = middle.quality, middle
            best = min(best, top, key=lambda reached: reached.bpp)  # fits need not be monotone
        else:
            low, bottom = middle.quality, middle
    return best


def _between(low: float, high: float, place: float) -> float:
    """A quality strictly between two, at ``place`` in [0, 1], but not too near either end."""
    quality = low + (high - low) * min(max(place, 0.1), 0.9)
    return min(max(round(quality / STEP) * STEP, low + STEP), high - STEP)


def _decibels(reached: Reached) -> float:
    return float("-inf") if reached.psnr is None else reached.psnr


def _psnr(original: np.ndarray, decoded: np.ndarray) -> float:
    """dB over all channels, peak 255; infinite if equal."""
    error = np.mean(np.square(original.astype(np.float32) - decoded), dtype=np.float64)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
