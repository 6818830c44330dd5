"""COOL-CHIC's small networks with their gradients, by compiled kernels: for fits on a CPU.

Some rows or columns at a time, side by side as many as torch has threads; the parts are the same
and are summed in the same order whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from compressai_gen_plugins.overfitted import fused_kernels, kernels
from compressai_gen_plugins.overfitted.blocks import at_once

ROWS, COLUMNS = 64, 2**14
"""Of a part."""

Arrays = tuple[np.ndarray, ...]
Sums = tuple[Arrays, Arrays]
"""Gradients of matrices and of biases, of a part."""


def usable(x: Tensor) -> bool:
    """Whether the kernels are for it. Where nothing is trained nobody should wait for numba."""
    fitting = x.dtype == torch.float32 and not at_once(x.device)
    return kernels.njit is not None and fitting and torch.is_grad_enabled()


def rate(
    rows: Tensor, places: np.ndarray, constants: Sequence[float], weights: Sequence[Tensor]
) -> Tensor:
    """Bits of a grid of latents under the autoregressive model, a scalar.

    Args:
        rows: with their surroundings, (1, radius + h, w + 2 radius).
        places: row and column of every neighbour, (C, 2), from 0.
        constants: of the tail of the law, and the lowest and highest sharpness.
        weights: matrices (O, C) and biases (O, 1), in turns.
    """
    return cast(Tensor, _Rate.apply(rows, places, constants, *weights))


def pixels(x: Tensor, rectified: tuple[bool, ...], weights: Sequence[Tensor]) -> Tensor:
    """Layers of single pixels, (C, N) to (D, N).

    Args:
        x: columns.
        rectified: of every layer, whether its result is.
        weights: as above.
    """
    return cast(Tensor, _Pixels.apply(x, rectified, *weights))


def enlarged(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice as large: grids (C, h + 4, w + 4) by a kernel (8, 8), to (C, 2 h, 2 w)."""
    return cast(Tensor, _Enlarged.apply(x.contiguous(), kernel))


class _Rate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, places: np.ndarray, constants: Sequence[float], *weights: Tensor
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0], any(ctx.needs_input_grad[3:])
        grid, (matrices, biases) = rows[0].numpy(), arrays(weights)
        radius = int(places[:, 1].max()) // 2
        given = np.array(constants, np.float32)

        def part(top: int) -> tuple[float, np.ndarray, Sums]:
            own = grid[top : top + ROWS + radius]
            by_own, sums = np.zeros_like(own), (zeros(matrices), zeros(biases))
            model = places, matrices, biases, given, wanted
            return fused_kernels.rate(own, *model, by_own, *sums), by_own, sums

        tops = range(0, len(grid) - radius, ROWS)
        values, by_rows, sums = zip(*side_by_side(part, tops, grid.size), strict=True)
        by_grid = np.zeros_like(grid)
        for top, own in zip(tops, by_rows, strict=True):
            by_grid[top : top + len(own)] += own
        ctx.gradients = torch.from_numpy(by_grid)[None], *summed(sums)
        return rows.new_tensor(sum(values))

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        rows, *others = (outer * gradient for gradient in ctx.gradients)
        return rows, None, None, *others


class _Pixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rectified: tuple[bool, ...], *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        ctx.rectified = rectified
        matrices, biases = arrays(weights)
        out = x.new_empty(len(matrices[-1]), x.shape[1])
        given, drawn = x.numpy(), out.numpy()

        def part(first: int) -> None:
            own = slice(first, first + COLUMNS)
            fused_kernels.pixels(given[:, own], matrices, biases, rectified, drawn[:, own])

        side_by_side(part, range(0, x.shape[1], COLUMNS), x.shape[1])
        return out

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        x, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:])
        (matrices, biases), by_x = arrays(weights), torch.zeros_like(x)
        given, shown, gradient = x.numpy(), outer.numpy(), by_x.numpy()

        def part(first: int) -> Sums:
            own, sums = slice(first, first + COLUMNS), (zeros(matrices), zeros(biases))
            layers = matrices, biases, ctx.rectified
            ends = given[:, own], *layers, shown[:, own]
            fused_kernels.pixels_back(*ends, wanted, gradient[:, own], *sums)
            return sums

        parts = side_by_side(part, range(0, x.shape[1], COLUMNS), x.shape[1])
        return by_x, None, *summed(parts)


class _Enlarged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        height, width = x.shape[1] - 4, x.shape[2] - 4
        out = x.new_empty(len(x), 2 * height, 2 * width)
        given = x.numpy(), kernel.detach().numpy(), out.numpy()

        def part(channel: int) -> None:
            fused_kernels.enlarge(given[0][channel], given[1], given[2][channel])

        side_by_side(part, range(len(x)), out.numel())
        return out

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Any:
        x, kernel = ctx.saved_tensors
        by_x, by_kernel = torch.zeros_like(x), kernel.new_zeros(len(x), *kernel.shape)
        given, taps, shown = x.numpy(), kernel.detach().numpy(), outer.numpy()
        found = by_x.numpy(), by_kernel.numpy()

        def part(channel: int) -> None:
            sums = found[0][channel], found[1][channel]
            fused_kernels.enlarge_back(given[channel], taps, shown[channel], *sums)

        side_by_side(part, range(len(x)), outer.numel())
        return by_x, by_kernel.sum(0)


def arrays(weights: Sequence[Tensor]) -> tuple[Arrays, Arrays]:
    """Matrices and vectors of biases, for the kernels."""
    matrices = tuple(weight.detach().contiguous().numpy() for weight in weights[::2])
    return matrices, tuple(bias.detach().flatten().numpy() for bias in weights[1::2])


def zeros(arrays: Arrays) -> Arrays:
    """As many, of these shapes."""
    return tuple(np.zeros_like(array) for array in arrays)


def summed(parts: Sequence[Sums]) -> list[Tensor]:
    """Gradients of matrices and of biases (O, 1), in turns, over all parts."""
    found = []
    for matrix, bias in zip(*parts[0], strict=True):
        found += [torch.zeros(matrix.shape), torch.zeros(len(bias), 1)]
    for matrices, biases in parts:
        both = [each for pair in zip(matrices, biases, strict=True) for each in pair]
        for total, array in zip(found, both, strict=True):
            total += torch.from_numpy(array).view_as(total)
    return found


def side_by_side(part: Callable[[int], Any], firsts: range, numbers: int) -> list[Any]:
    """What a part says, of every one; of few numbers in all, one after the other."""
    threads = min(torch.get_num_threads(), len(firsts), 1 + numbers // COLUMNS)
    if threads == 1:
        return [part(first) for first in firsts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(part, firsts))
