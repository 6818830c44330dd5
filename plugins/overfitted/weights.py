"""The weights of a network as the bytes of a file: integers, entropy-coded.

Every tensor has one of 63 two-sided geometric distributions, of its integers or of what is left
of them without three, five or seven low bits, which lie flat; of NIF it has a bound (float16), too.
All is built with integers, so that it is the same on every machine; nothing in a file is code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from compressai_gen.entropy.range_coder import (
    MAX_SYMBOL,
    Decoder,
    Encoder,
    Integers,
    as_integers,
)
from compressai_gen.entropy.tables import TOTAL, CdfTables
from compressai_gen.errors import CorruptedFileError

LEVELS = 127
"""Largest integer of a row. NIF's weights are multiples of bound / LEVELS, none is beyond it."""

RATIOS = 64
"""Row r of the tables has the probabilities ((r + 1) / RATIOS) ** |k|, up to a factor."""

GEOMETRIC = RATIOS - 1
"""Such rows; those of low bits follow."""

SHIFTS = (0, 3, 5, 7)
"""Low bits that are coded apart, so that wide tensors have a distribution, too. A tensor's number
in a file is its row, and GEOMETRIC times the index of its shift."""

ESCAPE = 16
"""Bits of a number outside of a row beside the row's own, about."""

BOUND_BYTES = 2


@lru_cache(maxsize=1)
def tables() -> CdfTables:
    """Geometric distributions of -LEVELS ... LEVELS, one a row, then the flat ones of low bits."""
    sizes = [abs(k) for k in range(-LEVELS, LEVELS + 1)]
    rows = [row([n**k * RATIOS ** (LEVELS - k) for k in sizes]) for n in range(1, RATIOS)]
    rows += [row([1] * 2**shift) for shift in SHIFTS[1:]]
    made = CdfTables(len(rows), sum(map(len, rows)))
    made.cdf.copy_(torch.tensor([entry for entries in rows for entry in entries]))
    made.length.copy_(torch.tensor([len(entries) for entries in rows]))
    made.offset[:GEOMETRIC] = -LEVELS
    return made


def row(weights: Sequence[int]) -> list[int]:
    """Cumulative frequencies: every symbol, and the unused tail, has one at least."""
    spare, whole = TOTAL - len(weights) - 1, sum(weights)
    return [0, *(spare * done // whole + k for k, done in enumerate(accumulate([*weights, 0]), 1))]


def quantised(tensor: Tensor) -> tuple[Tensor, float]:
    """Levels, integers in float, and the bound that they are relative to.

    The bound is the smallest float16 that is not below the largest weight.
    """
    largest = float(tensor.detach().abs().max())
    half = np.float16(largest)
    if float(half) < largest:
        half = np.nextafter(half, np.float16(np.inf), dtype=np.float16)
    bound = max(float(half), float(np.finfo(np.float16).tiny))
    return (tensor.detach() / bound * LEVELS).round().clamp(-LEVELS, LEVELS), bound


def dequantised(levels: Tensor, bound: float) -> Tensor:
    """Weights of levels, float32."""
    return (levels.double() * (bound / LEVELS)).float()


def cheapest(levels: Integers) -> int:
    """The number of the distribution that codes levels (n,) in the fewest bits, about."""
    entries = tables().cdf[: GEOMETRIC * (2 * LEVELS + 3)].view(GEOMETRIC, -1)
    bits = -np.log2(np.diff(entries.numpy().astype(np.float64)) / TOTAL)
    bits[:, -1] += ESCAPE
    costs = []
    for shift in SHIFTS:
        places = split(levels, shift)[0] + LEVELS
        places[(places < 0) | (places > 2 * LEVELS)] = 2 * LEVELS + 1
        counts = np.bincount(places, minlength=2 * LEVELS + 2)
        costs.append(bits @ counts + shift * levels.size)
    return int(np.concatenate(costs).argmin())


def split(levels: Integers, shift: int) -> tuple[Integers, Integers]:
    """Levels (n,) over 2**shift, rounded, and what is left, in [0, 2**shift), half of that at 0."""
    moved = levels + (1 << shift >> 1)
    return moved >> shift, moved & (1 << shift) - 1


def joined(high: Integers, low: Integers, shift: int) -> Integers:
    """What :func:`split` parted, untrusted, (n,) each.

    Raises:
        CorruptedFileError: for what cannot have come from there.
    """
    levels = (high << shift) + low - (1 << shift >> 1)
    if ((low < 0) | (low >> shift > 0)).any() or (abs(levels) > MAX_SYMBOL).any():
        raise CorruptedFileError("a weight of the network is out of range")
    return levels


def rows_for(number: int, count: int) -> tuple[int, list[Integers]]:
    """A distribution's shift, and the rows (count,) of the tables for levels and for low bits."""
    place, high = divmod(number, GEOMETRIC)
    rows = [high] if place == 0 else [high, GEOMETRIC + place - 1]
    return SHIFTS[place], [np.full(count, row) for row in rows]


def pack_levels(tensors: Sequence[Tensor]) -> tuple[bytes, bytes, int]:
    """Integers in float, a tensor each: a byte a tensor, the stream, the CRC32.

    At least four numbers in all, each below 2**14.
    """
    integers = [as_integers(levels) for levels in tensors]
    numbers, encoder = bytes(map(cheapest, integers)), Encoder()
    for levels, number in zip(integers, numbers, strict=True):
        shift, rows = rows_for(number, levels.size)
        for symbols, own in zip(split(levels, shift), rows, strict=False):
            encoder.push(symbols, own, tables())
    return numbers, encoder.finish(), encoder.crc


def unpack_levels(
    numbers: bytes, stream: bytes, shapes: Sequence[Sequence[int]]
) -> tuple[list[Tensor], int]:
    """What :func:`pack_levels` packed, int64, and the CRC32.

    Args:
        numbers, stream: untrusted.
        shapes: of the tensors.

    Raises:
        CorruptedFileError: if they cannot have come from :func:`pack_levels`.
    """
    if len(numbers) != len(shapes) or max(numbers) >= GEOMETRIC * len(SHIFTS):
        raise CorruptedFileError("the tensors of the network have impossible distributions")
    decoder, tensors = Decoder(stream, 2 * sum(map(math.prod, shapes))), []
    for number, shape in zip(numbers, shapes, strict=True):
        shift, rows = rows_for(number, math.prod(shape))
        high, *low = (decoder.pull(own, tables()) for own in rows)
        levels = joined(high, low[0] if low else np.zeros_like(high), shift)
        tensors.append(torch.from_numpy(levels).view(tuple(shape)))
    decoder.finish()
    return tensors, decoder.crc


def pack_tensors(tensors: Sequence[Tensor]) -> tuple[bytes, bytes, int]:
    """Bounds and rows (three bytes a tensor), the stream of all levels, the CRC32 of the levels."""
    pairs = [quantised(tensor) for tensor in tensors]
    rows, stream, crc = pack_levels([levels for levels, _ in pairs])
    bounds = np.array([bound for _, bound in pairs], "<f2").tobytes()
    return bounds + rows, stream, crc


def unpack_tensors(
    side: bytes, stream: bytes, shapes: Sequence[torch.Size]
) -> tuple[list[Tensor], int]:
    """What :func:`pack_tensors` packed, float32, and the CRC32 of the levels.

    Args:
        side, stream: untrusted.
        shapes: of the tensors.

    Raises:
        CorruptedFileError: if they cannot have come from :func:`pack_tensors`.
    """
    if len(side) != len(shapes) * (BOUND_BYTES + 1):
        raise CorruptedFileError("the weights' bounds have another length than the network")
    end = BOUND_BYTES * len(shapes)
    bounds = np.frombuffer(side[:end], "<f2").astype(np.float64)
    if not (np.isfinite(bounds) & (bounds > 0)).all():
        raise CorruptedFileError("a tensor of the network has an impossible bound")
    levels, crc = unpack_levels(side[end:], stream, shapes)
    if any(int(tensor.abs().max()) > LEVELS for tensor in levels):
        raise CorruptedFileError("a weight is beyond its bound")
    pairs = zip(levels, bounds, strict=True)
    return [dequantised(tensor, float(bound)) for tensor, bound in pairs], crc
