"""The weights of a network as the bytes of a file: eight bits each, entropy-coded.

Every tensor has a bound (a float16) and one of 63 two-sided geometric distributions. These are
built with integers, so that they are the same on every machine; nothing in a file is code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from compressai_gen.entropy.range_coder import Decoder, Encoder, as_integers
from compressai_gen.entropy.tables import TOTAL, CdfTables
from compressai_gen.errors import CorruptedFileError

LEVELS = 127
"""Weights are multiples of bound / LEVELS, at most LEVELS of them either way."""

RATIOS = 64
"""Row r of the tables has the probabilities ((r + 1) / RATIOS) ** |k|, up to a factor."""

BOUND_BYTES = 2


@lru_cache(maxsize=1)
def tables() -> CdfTables:
    """One distribution of -LEVELS ... LEVELS a row."""
    rows = [row(n) for n in range(1, RATIOS)]
    made = CdfTables(len(rows), sum(map(len, rows)))
    made.cdf.copy_(torch.tensor([entry for entries in rows for entry in entries]))
    made.length.fill_(len(rows[0]))
    made.offset.fill_(-LEVELS)
    return made


def row(numerator: int) -> list[int]:
    """Cumulative frequencies: every symbol, and the unused tail, has one at least."""
    sizes = [abs(k) for k in range(-LEVELS, LEVELS + 1)]
    weights = [numerator**n * RATIOS ** (LEVELS - n) for n in sizes] + [0]
    spare, whole = TOTAL - len(weights), sum(weights)
    return [0, *(spare * done // whole + k for k, done in enumerate(accumulate(weights), 1))]


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


def cheapest_row(levels: Tensor) -> int:
    """The distribution that codes these levels in the fewest bits."""
    inside = as_integers(levels).clip(-LEVELS, LEVELS)  # what lies beyond costs the same in all
    counts = np.bincount(inside + LEVELS, minlength=2 * LEVELS + 1)
    cdfs = tables().cdf.view(RATIOS - 1, -1).numpy().astype(np.float64)
    bits = -np.log2(np.diff(cdfs)[:, : 2 * LEVELS + 1] / TOTAL)
    return int((bits @ counts).argmin())


def pack_levels(tensors: Sequence[Tensor]) -> tuple[bytes, bytes, int]:
    """Integers in float, a tensor each: a row of the tables a tensor, the stream, the CRC32.

    At least four numbers in all, each below 2**14.
    """
    rows, encoder = bytes(map(cheapest_row, tensors)), Encoder()
    for levels, number in zip(tensors, rows, strict=True):
        symbols = as_integers(levels)
        encoder.push(symbols, np.full_like(symbols, number), tables())
    return rows, encoder.finish(), encoder.crc


def unpack_levels(
    rows: bytes, stream: bytes, shapes: Sequence[Sequence[int]]
) -> tuple[list[Tensor], int]:
    """What :func:`pack_levels` packed, int64, and the CRC32.

    Args:
        rows, stream: untrusted.
        shapes: of the tensors.

    Raises:
        CorruptedFileError: if they cannot have come from :func:`pack_levels`.
    """
    if len(rows) != len(shapes) or max(rows) >= RATIOS - 1:
        raise CorruptedFileError("the tensors of the network have impossible distributions")
    decoder, tensors = Decoder(stream, sum(map(math.prod, shapes))), []
    for number, shape in zip(rows, shapes, strict=True):
        levels = decoder.pull(np.full(math.prod(shape), number), tables())
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
