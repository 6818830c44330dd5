"""The loop over latents, one after the other: integer model, then range coder; compiled by numba.

Order: fronts. A latent's neighbourhood reaches ``radius`` columns to the right in the rows above,
so those with equal ``x + (radius + 1) y`` do not depend on each other; a front is coded from its
uppermost latent down. `fronts` does the same without a compiler, a front at a time.

Activations and means are limited, weights are below 2**20: all sums stay below 2**51, whatever a
file says, so that 64-bit integers cannot overflow and float64, which `fronts` sums in, is exact.
The range coder keeps 48 bits and writes bytes with carries (Martin 1979, in the form of LZMA).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
njit: Any = None
with suppress(ImportError):  # without it these functions are not used
    from numba import njit

PRECISION = 20
"""Bits of the frequencies in the tables. (Here, with what else the kernels take for constant, since
numba's cache knows of changes to this file alone.)"""

REACH = 127
"""A symbol is the distance from the rounded mean, at most REACH either way."""

SYMBOLS = 2 * REACH + 1
SCALES = 128
FRACTION_BITS = 4
FRACTIONS = 1 << FRACTION_BITS
LOG_SCALE_LOW, LOG_SCALE_HIGH = -7, 5
"""Natural logarithm of the scale of the tables' first and of their last row, evenly spaced."""

BITS = 8
"""Fractional bits of the model's activations and weights."""

ONE = 1 << BITS
TOP = 1 << 48
BOTTOM = 1 << 40
MASK = BOTTOM - 1
LOW_SHARPNESS, HIGH_SHARPNESS = -2 * LOG_SCALE_HIGH * ONE, -2 * LOG_SCALE_LOW * ONE
SPAN = HIGH_SHARPNESS - LOW_SHARPNESS
LIMIT = 1 << 20
"""Activations are limited to this magnitude, fractional bits included."""

FAR = 1 << 24
"""So are means, on either side, and with them latents: 65,536."""

TO_FRACTION = BITS - FRACTION_BITS
"""Bits that a mean has too many for the tables."""


def compiled(**options: Any) -> Callable[[Function], Function]:
    """A decorator: compiled where numba is there, with further options of its."""

    def decorate(function: Function) -> Function:
        if njit is None:
            return function
        try:
            made: Function = njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the home can be written to
            made = njit(nogil=True, **options)(function)
        return made

    return decorate


@compiled()
def law(grid, y, x, radius, places, first, first_bias, second, second_bias, last, last_bias, work):  # type: ignore  # noqa: ANN001, ANN201
    """Row of the tables and rounded mean at a latent.

    Args:
        grid: integers, padded by ``radius`` above, left and right.
        y, x: of the latent, without the padding.
        radius: of the neighbourhood.
        places: rows and columns of the neighbours, (C, 2).
        first, second: weights with their skip, transposed (inputs, outputs), BITS fractional bits.
        last: likewise, (inputs, 2).
        first_bias, second_bias, last_bias: twice as many fractional bits.
        work: scratch, (2, C).
    """
    width = places.shape[0]
    h, g = work[0], work[1]
    for o in range(width):
        h[o] = first_bias[o]
    for i in range(width):
        value = grid[y + radius + places[i, 0], x + radius + places[i, 1]]
        if value != 0:
            value <<= BITS
            for o in range(width):
                h[o] += value * first[i, o]
    for o in range(width):
        g[o] = second_bias[o]
    for i in range(width):
        value = min((h[i] + ONE // 2) >> BITS, LIMIT)
        if value > 0:
            for o in range(width):
                g[o] += value * second[i, o]
    mean, sharpness = last_bias[0], last_bias[1]
    for i in range(width):
        value = min((g[i] + ONE // 2) >> BITS, LIMIT)
        if value > 0:
            mean += value * last[i, 0]
            sharpness += value * last[i, 1]
    mean = min(max((mean + ONE // 2) >> BITS, -FAR), FAR)
    sharpness = (sharpness + ONE // 2) >> BITS
    parts = (mean + (1 << TO_FRACTION >> 1)) >> TO_FRACTION
    whole = (parts + FRACTIONS // 2) >> FRACTION_BITS
    fraction = parts - (whole << FRACTION_BITS) + FRACTIONS // 2
    sharpness = min(max(sharpness, LOW_SHARPNESS), HIGH_SHARPNESS)
    scale = ((HIGH_SHARPNESS - sharpness) * (SCALES - 1) + SPAN // 2) // SPAN
    return scale * FRACTIONS + fraction, whole


@compiled()
def shift_out(out, low, cache, pending, count):  # type: ignore  # noqa: ANN001, ANN201
    """Move the topmost byte of ``low`` out of the encoder's state, which is returned.

    It stays in ``cache``, with ``pending`` bytes of 255 behind it, until no carry can reach it.

    Args:
        out: bytes, of which ``count`` are written.
        low: lower end of the interval, below 2**49.
    """
    if low < 0xFF0000000000 or low >= TOP:
        carry = low >> 48
        out[count] = (cache + carry) & 255
        count += 1
        for _ in range(pending):
            out[count] = (255 + carry) & 255
            count += 1
        pending = 0
        cache = (low >> 40) & 255
    else:
        pending += 1
    return (low & MASK) << 8, cache, pending, count


@compiled()
def encode_grid(grid, radius, places, model, tables, out):  # type: ignore  # noqa: ANN001, ANN201
    """Code a grid; returns the number of bytes written to ``out``, or -1 if it is too short.

    The first byte only waits for a carry that cannot come: it is 0, and no part of the data.

    Args:
        grid: integers, padded; a latent beyond the reach of its law is moved to its end.
        radius, places: as for `law`.
        model: the six arrays of weights and biases.
        tables: cumulative frequencies.
        out: bytes.
    """
    height, width = grid.shape[0] - radius, grid.shape[1] - 2 * radius
    work = np.zeros((2, places.shape[0]), np.int64)
    low, extent, cache, pending, count = 0, TOP - 1, 0, 0, 0
    slope = radius + 1
    for front in range(width + slope * (height - 1)):
        for y in range(max(0, (front - width + slope) // slope), min(height, front // slope + 1)):
            x = front - slope * y
            row, whole = law(grid, y, x, radius, places, model[0], model[1], model[2], model[3],
                             model[4], model[5], work)  # fmt: skip
            symbol = min(max(grid[y + radius, x + radius] - whole + REACH, 0), SYMBOLS - 1)
            grid[y + radius, x + radius] = symbol + whole - REACH
            start, end = tables[row, symbol], tables[row, symbol + 1]
            step = extent >> PRECISION
            low += step * start
            extent = step * (end - start)
            while extent < BOTTOM:
                extent <<= 8
                if count + pending + 8 > out.shape[0]:
                    return -1
                low, cache, pending, count = shift_out(out, low, cache, pending, count)
    end = low + extent  # what is left: the value in [low, end) that ends in most zeros
    for zeros in range(48):
        block = 1 << (47 - zeros)
        value = (low + block - 1) // block * block
        if value < end:
            low = value
            break
    for _ in range(7):
        low, cache, pending, count = shift_out(out, low, cache, pending, count)
    return count


@compiled()
def decode_grid(grid, radius, places, model, tables, data):  # type: ignore  # noqa: ANN001, ANN201
    """Fill a padded grid of zeros from the data of `encode_grid`; beyond their end are zeros.

    Returns how many bytes were taken, or -1 if no encoder wrote them.
    """
    height, width = grid.shape[0] - radius, grid.shape[1] - 2 * radius
    work = np.zeros((2, places.shape[0]), np.int64)
    size = data.shape[0]
    code, count = 0, 0
    for _ in range(6):
        code = (code << 8) | (data[count] if count < size else 0)
        count += 1
    extent = TOP - 1
    slope = radius + 1
    for front in range(width + slope * (height - 1)):
        for y in range(max(0, (front - width + slope) // slope), min(height, front // slope + 1)):
            x = front - slope * y
            row, whole = law(grid, y, x, radius, places, model[0], model[1], model[2], model[3],
                             model[4], model[5], work)  # fmt: skip
            step = extent >> PRECISION
            value = code // step
            if value >> PRECISION:
                return -1
            symbol = REACH  # outwards from the mean, where nearly all symbols are
            if tables[row, symbol] <= value:
                while tables[row, symbol + 1] <= value:
                    symbol += 1
            else:
                symbol -= 1
                while tables[row, symbol] > value:
                    symbol -= 1
            grid[y + radius, x + radius] = symbol + whole - REACH
            start, end = tables[row, symbol], tables[row, symbol + 1]
            code -= step * start
            extent = step * (end - start)
            while extent < BOTTOM:
                extent <<= 8
                code = (code << 8) | (data[count] if count < size else 0)
                count += 1
    return count
