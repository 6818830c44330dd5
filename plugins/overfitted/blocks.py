"""Small matrices times many columns, which is what COOL-CHIC is made of, on CPUs and on GPUs.

On a CPU functions of large grids are computed and differentiated some rows at a time. At once,
every intermediate result is a tensor of tens of megabytes that goes to memory and back; of few rows
it stays in the processor's cache. They are differentiated by torch, a block at a time: at once
where the result is a sum, otherwise computed anew when the gradient is there.

On a GPU whole grids are computed at once, but with their columns in tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**14
"""Columns at a time, on a CPU."""

TILE = 2**10
"""Columns of a tile, on a GPU."""

Function = Callable[..., Tensor]
"""Rows of a grid (C, rows, w) and weights to a tensor."""


def at_once(device: torch.device) -> bool:
    """Whether whole grids are computed at once."""
    return device.type != "cpu"


def tiled(x: Tensor) -> Tensor:
    """Columns (C, N); on a GPU as tiles (K, C, n), the last one with zeros at its end.

    The gradient of a weight is a product of few rows and columns, summed over all N. Of several
    pictures' at once, each is left to a single one of the GPU's multiprocessors; of tiles, all of
    them have something to do.
    """
    if not at_once(x.device):
        return x
    return F.pad(x, (0, -x.shape[1] % TILE)).unflatten(1, (-1, TILE)).transpose(0, 1)


def untiled(x: Tensor, count: int) -> Tensor:
    """Columns (C, count) from what :func:`tiled` made of them."""
    return x if x.dim() == 2 else x.transpose(0, 1).flatten(1)[:, :count]


def affine(bias: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """``weight @ x + bias`` of columns (C, N) or tiles (K, C, n), with (O, C) and (O, 1)."""
    if x.dim() == 2:
        return torch.addmm(bias, weight, x)
    return torch.baddbmm(bias, weight.expand(len(x), -1, -1), x)


def mapped(function: Function, x: Tensor, *weights: Tensor) -> Tensor:
    """``function(x, *weights)`` for a function of single pixels, (C, h, w) to (D, h, w)."""
    if at_once(x.device):
        return function(x, *weights)
    return cast(Tensor, _Mapped.apply(function, x, *weights))


def summed(function: Function, x: Tensor, halo: int, *weights: Tensor) -> Tensor:
    """The sum of ``function`` over the rows of a grid, a scalar.

    Args:
        function: takes some rows with `halo` more above them, and the weights; gives a scalar.
        x: the grid with `halo` rows above it, shape (C, halo + h, w).
        halo: see above.
        weights: passed on.
    """
    if at_once(x.device):
        return function(x, *weights)
    if not torch.is_grad_enabled():
        parts = _parts(x, halo)
        return torch.stack([function(x[:, rows], *weights) for rows in parts]).sum()
    return cast(Tensor, _Summed.apply(function, halo, x, *weights))


class _Mapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x, *weights)
        return torch.cat([function(x[:, rows], *weights) for rows in _parts(x, 0)], dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        total = _Gradients(ctx.saved_tensors, ctx.needs_input_grad[1:])
        for rows in _parts(gradient, 0):
            total.add(ctx.function, rows, gradient[:, rows])
        return None, *total.sums


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, halo: int, x: Tensor, *weights: Tensor) -> Tensor:
        total = _Gradients((x, *weights), ctx.needs_input_grad[2:])
        values = [total.add(function, rows) for rows in _parts(x, halo)]
        ctx.gradients = total.sums
        return torch.stack(values).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None, *(None if g is None else g * gradient for g in ctx.gradients)


class _Gradients:
    """Of a grid and of weights, summed over blocks.

    Args:
        inputs: the grid, then the weights.
        needed: which of them are to be differentiated.
    """

    def __init__(self, inputs: tuple[Tensor, ...], needed: tuple[bool, ...]) -> None:
        self.inputs, self.needed = [tensor.detach() for tensor in inputs], needed
        self.sums = [
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip(inputs, needed, strict=True)
        ]

    def add(self, function: Function, rows: slice, outer: Tensor | None = None) -> Tensor:
        """The value of some rows; its gradient, times the outer one, is added."""
        x, *weights = self.inputs
        pairs = zip((x[:, rows], *weights), self.needed, strict=True)
        inputs = [tensor.detach().requires_grad_(need) for tensor, need in pairs]
        with torch.enable_grad():
            value = function(*inputs)
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, outer))
        for number, total in enumerate(self.sums):
            if total is not None:
                (total if number else total[:, rows]).add_(next(found))
        return value.detach()


def _parts(x: Tensor, halo: int) -> Iterator[slice]:
    """Rows of the blocks of (C, halo + h, w), each with its halo."""
    count = max(1, BLOCK // x.shape[2])
    for top in range(0, x.shape[1] - halo, count):
        yield slice(top, min(top + count + halo, x.shape[1]))
