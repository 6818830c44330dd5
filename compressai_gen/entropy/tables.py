"""Integer tables: cumulative distributions for the range coder, and thresholds on the scales."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from compressai.entropy_models import EntropyModel, GaussianConditional
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import ACTIVATION_BOUND, ONE, config_int, to_float64
from compressai_gen.errors import CheckpointError

TOTAL = 2**16
"""Every cumulative distribution ends here."""

Lists = tuple[list[list[int]], list[int]]


class CdfTables(nn.Module):
    """Cumulative distributions of different lengths, stored one after the other.

    Row r describes the symbols ``offset[r] ... offset[r] + length[r] - 3`` and, as its last entry,
    everything else (the tail).

    Args:
        rows: number of distributions.
        entries: sum of their lengths.
    """

    cdf: Tensor
    length: Tensor
    offset: Tensor

    def __init__(self, rows: int, entries: int) -> None:
        super().__init__()
        self.register_buffer("cdf", torch.zeros(entries, dtype=torch.int32))
        self.register_buffer("length", torch.zeros(rows, dtype=torch.int32))
        self.register_buffer("offset", torch.zeros(rows, dtype=torch.int32))
        self._lists: Lists | None = None

    def lists(self) -> Lists:
        """Distributions and their lengths as the coder takes them; checked once, then cached.

        A row gets one more symbol of probability zero. The C++ coder gives the last symbol of a
        row a meaning of its own (see :mod:`compressai_gen.entropy.range_coder`), which so cannot
        occur in a stream, whatever its bytes.

        Raises:
            CheckpointError: if the tables are not cumulative distributions.
        """
        if self._lists is None:
            self._check()
            lengths = self.length.tolist()
            rows = [row.tolist() for row in self.cdf.cpu().split(lengths)]
            self._lists = [[*row, TOTAL] for row in rows], [n + 1 for n in lengths]
        return self._lists

    def tails(self) -> np.ndarray[Any, Any]:
        """Index of every row's tail symbol, int64."""
        return self.length.cpu().numpy().astype(np.int64) - 2

    def offsets(self) -> np.ndarray[Any, Any]:
        """First symbol of every row, int64."""
        return self.offset.cpu().numpy().astype(np.int64)

    def least_bits(self) -> float:
        """What one symbol of every row costs at the very least, in bits, summed over the rows."""
        rows, _ = self.lists()
        return -sum(math.log2(max(b - a for a, b in pairwise(row)) / TOTAL) for row in rows)

    def _check(self) -> None:
        length, cdf = self.length.cpu().long(), self.cdf.cpu().long()
        sound = bool((length >= 3).all()) and int(length.sum()) == cdf.numel()
        if sound:
            ends = length.cumsum(0) - 1
            starts = ends - length + 1
            rising = cdf.diff() > 0
            rising[ends[:-1]] = True  # from the end of a row to the start of the next
            sound = bool((cdf[starts] == 0).all() and (cdf[ends] == TOTAL).all() and rising.all())
        if not sound or int(self.offset.long().abs().max()) > 2**16:
            raise CheckpointError(
                "the checkpoint's tables are not cumulative distributions; load its weights first, "
                "or fetch it again"
            )

    def _apply(self, fn: Any, recurse: bool = True) -> CdfTables:
        self._lists = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._lists = None
        super()._load_from_state_dict(*args, **kwargs)

    def config(self) -> dict[str, int]:
        return {"rows": self.length.numel(), "entries": self.cdf.numel()}

    @classmethod
    def from_config(cls, config: Any) -> CdfTables:
        rows = config_int(config, "rows", 1, 2**14)
        return cls(rows, config_int(config, "entries", 3 * rows, 2**24))

    @classmethod
    def from_entropy_model(cls, model: EntropyModel) -> CdfTables:
        """Copy the integer tables that ``update()`` built; nothing is computed anew.

        Raises:
            CheckpointError: if the model has none yet.
        """
        lengths = model.cdf_length.flatten().tolist()
        if not lengths:
            raise CheckpointError("the entropy model has no tables; call model.update() first")
        rows = [row[:n] for row, n in zip(model.quantized_cdf.cpu(), lengths, strict=True)]
        tables = cls(len(lengths), sum(lengths))
        tables.cdf.copy_(torch.cat(rows))
        tables.length.copy_(model.cdf_length.flatten())
        tables.offset.copy_(model.offset.flatten())
        tables.lists()
        return tables


def scale_thresholds(model: GaussianConditional) -> Tensor:
    """Integer thresholds whose count below a scale is the index of its distribution.

    ``GaussianConditional.build_indexes`` counts the table's scales s (but for the last) with
    ``max(scale, bound) > s``. For an integer scale a that is ``a > floor(s * ONE)``; a table entry
    below the bound is always counted.

    Returns:
        int32, shape (rows - 1,), ascending.
    """
    bound = float(model.scale_bound)
    always = -ACTIVATION_BOUND - 1
    table = [float(s) for s in model.scale_table[:-1]]
    exact = [always if s < bound else math.floor(Fraction(s) * ONE) for s in table]
    return torch.tensor([min(t, ACTIVATION_BOUND) for t in exact], dtype=torch.int32)


def scale_indexes(scales: Tensor, thresholds: Tensor) -> Tensor:
    """Index of the distribution of every scale.

    Args:
        scales: integers in float64, any shape.
        thresholds: see :func:`scale_thresholds`.

    Returns:
        int64 like ``scales``: the number of thresholds strictly below it.
    """
    return torch.bucketize(scales.contiguous(), to_float64(thresholds, scales.device))
