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
    counts = np.bincount(as_integers(levels) + LEVELS, minlength=2 * LEVELS + 1)
    cdfs = tables().cdf.view(RATIOS - 1, -1).numpy().astype(np.float64)
    bits = -np.log2(np.diff(cdfs)[:, : 2 * LEVELS + 1] / TOTAL)
    return int((bits @ counts).argmin())


def pack_tensors(tensors: Sequence[Tensor]) -> tuple[bytes, bytes, int]:
    """Bounds and rows (three bytes a tensor), the stream of all levels, the CRC32 of the levels.

    At least four weights in all.
    """
    side, encoder = b"", Encoder()
    for tensor in tensors:
        levels, bound = quantised(tensor)
        number = cheapest_row(levels)
        side += np.float16(bound).tobytes() + bytes([number])
        symbols = as_integers(levels)
        encoder.push(symbols, np.full_like(symbols, number), tables())
    return side, encoder.finish(), encoder.crc


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
    decoder, tensors = Decoder(stream, sum(map(math.prod, shapes))), []
    for place, shape in zip(range(0, len(side), BOUND_BYTES + 1), shapes, strict=True):
        bound = float(np.frombuffer(side[place : place + BOUND_BYTES], "<f2")[0])
        number = side[place + BOUND_BYTES]
        if not 0 < bound < math.inf or number >= RATIOS - 1:
            raise CorruptedFileError("a tensor of the network has an impossible bound")
        levels = decoder.pull(np.full(math.prod(shape), number), tables())
        if int(np.abs(levels).max(initial=0)) > LEVELS:
            raise CorruptedFileError("a weight is beyond its bound")
        tensors.append(dequantised(torch.from_numpy(levels).view(shape), bound))
    decoder.finish()
    return tensors, decoder.crc
