"""The kernels without a compiler: the model on a front of latents at once, the coder in Python.

Bytes and latents are those of `kernels`. Sums of the model are computed in float64, which is exact
for integers below 2**53 in any order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from compressai_gen_plugins.overfitted.arm_tables import tables
from compressai_gen_plugins.overfitted.kernels import (
    BOTTOM,
    FAR,
    FRACTION_BITS,
    FRACTIONS,
    HIGH_SHARPNESS,
    LIMIT,
    LOW_SHARPNESS,
    MASK,
    ONE,
    PRECISION,
    REACH,
    SCALES,
    SPAN,
    SYMBOLS,
    TO_FRACTION,
    TOP,
)

Integers = npt.NDArray[np.int64]
Front = tuple[Integers, Integers]
"""Rows and columns of its latents."""


@lru_cache(maxsize=2)
def rows_of_tables(tails: bool) -> list[list[int]]:
    """The tables as lists, in which a search is quick."""
    return tables(tails).tolist()


def fronts(height: int, width: int, radius: int) -> Iterator[Front]:
    """Latents that do not depend on each other, in the order of coding."""
    slope = radius + 1
    for front in range(width + slope * (height - 1)):
        first = max(0, (front - width + slope) // slope)
        y = np.arange(first, min(height, front // slope + 1))
        yield y, front - slope * y


class FrontLaw:
    """The laws of a front's latents.

    Args:
        grid: integers, padded; changed by the caller as they become known.
        radius, places, model: as for `kernels.law`.
    """

    def __init__(
        self, grid: Integers, radius: int, places: Integers, model: Sequence[Integers]
    ) -> None:
        self.grid, self.radius, self.places = grid, radius, places
        self.model = [part.astype(np.float64) for part in model]

    def __call__(self, front: Front) -> tuple[list[int], list[int]]:
        """Rows of the tables, and rounded means."""
        first, first_bias, second, second_bias, last, last_bias = self.model
        y, x = (place[:, None] + self.radius + shift for place, shift in zip(
            front, self.places.T, strict=True))  # fmt: skip
        h = (self.grid[y, x] * float(ONE)) @ first + first_bias
        h = np.clip(np.floor((h + ONE // 2) / ONE), 0, LIMIT) @ second + second_bias
        h = np.clip(np.floor((h + ONE // 2) / ONE), 0, LIMIT) @ last + last_bias
        mean, sharpness = np.floor((h + ONE // 2) / ONE).astype(np.int64).T
        parts = (mean.clip(-FAR, FAR) + (1 << TO_FRACTION >> 1)) >> TO_FRACTION
        whole = (parts + FRACTIONS // 2) >> FRACTION_BITS
        fraction = parts - (whole << FRACTION_BITS) + FRACTIONS // 2
        sharpness = sharpness.clip(LOW_SHARPNESS, HIGH_SHARPNESS)
        scale = ((HIGH_SHARPNESS - sharpness) * (SCALES - 1) + SPAN // 2) // SPAN
        return (scale * FRACTIONS + fraction).tolist(), whole.tolist()


def encode_grid(
    grid: Integers, radius: int, places: Integers, model: Sequence[Integers], tails: bool
) -> bytes:
    """As `kernels.encode_grid`: the bytes; the grid is changed where a latent is beyond reach."""
    height, width = grid.shape[0] - radius, grid.shape[1] - 2 * radius
    law, rows, out = FrontLaw(grid, radius, places, model), rows_of_tables(tails), bytearray()
    low, extent, cache, pending = 0, TOP - 1, 0, 0

    def shift() -> None:
        nonlocal low, cache, pending
        if low < 0xFF0000000000 or low >= TOP:
            carry = low >> 48
            out.append((cache + carry) & 255)
            out.extend([(255 + carry) & 255] * pending)
            pending, cache = 0, (low >> 40) & 255
        else:
            pending += 1
        low = (low & MASK) << 8

    for front in fronts(height, width, radius):
        for y, x, number, whole in zip(*front, *law(front), strict=True):
            latent = int(grid[y + radius, x + radius])
            symbol = min(max(latent - whole + REACH, 0), SYMBOLS - 1)
            grid[y + radius, x + radius] = symbol + whole - REACH
            row, step = rows[number], extent >> PRECISION
            low += step * row[symbol]
            extent = step * (row[symbol + 1] - row[symbol])
            while extent < BOTTOM:
                extent <<= 8
                shift()
    end = low + extent
    blocks = (1 << (47 - zeros) for zeros in range(48))
    low = next(v for b in blocks if (v := (low + b - 1) // b * b) < end)
    for _ in range(7):
        shift()
    return bytes(out[1:])


def decode_grid(
    grid: Integers,
    radius: int,
    places: Integers,
    model: Sequence[Integers],
    tails: bool,
    data: bytes,
) -> int:
    """As `kernels.decode_grid`: fills a padded grid of zeros; how many bytes were taken, or -1."""
    height, width = grid.shape[0] - radius, grid.shape[1] - 2 * radius
    law, rows = FrontLaw(grid, radius, places, model), rows_of_tables(tails)
    code = int.from_bytes(data[:6].ljust(6, b"\0"), "big")
    count, extent, size = 6, TOP - 1, len(data)
    for front in fronts(height, width, radius):
        values = []
        for number, whole in zip(*law(front), strict=True):
            row, step = rows[number], extent >> PRECISION
            value = code // step
            if value >> PRECISION:
                return -1
            symbol = bisect_right(row, value) - 1
            start = row[symbol]
            code -= step * start
            extent = step * (row[symbol + 1] - start)
            while extent < BOTTOM:
                extent <<= 8
                code = code << 8 | (data[count] if count < size else 0)
                count += 1
            values.append(symbol + whole - REACH)
        grid[front[0] + radius, front[1] + radius] = values
    return count
