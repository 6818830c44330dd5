"""A network on overlapping tiles of its input, for pictures larger than memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 4
"""Neighbouring tiles share a quarter of a tile."""


def starts(length: int, tile: int) -> list[int]:
    """Where tiles begin so that they cover ``length`` and overlap by a quarter at least."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile - tile // OVERLAP)) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window(height: int, width: int, device: torch.device) -> Tensor:
    """Weights that fall towards the borders of a tile, positive, shape (height, width)."""
    sides = []
    for length in (height, width):
        place = torch.arange(length, device=device) + 0.5
        sides.append(torch.minimum(place, length - place).clamp(max=max(1, length // OVERLAP)))
    return sides[0][:, None] * sides[1]


def tiled(
    function: Callable[[slice, slice], Tensor], height: int, width: int, tile: int | None
) -> Tensor:
    """Weighted mean of a function's values on overlapping tiles.

    Args:
        function: rows and columns of a tile to a tensor (B, C, rows, columns).
        height, width: to cover.
        tile: side of a tile, or None for the whole at once.

    Returns:
        shape (B, C, height, width); exactly ``function``'s value where one tile is enough.
    """
    if tile is None or max(height, width) <= tile:
        return function(slice(0, height), slice(0, width))
    total = weight = None
    for top in starts(height, tile):
        for left in starts(width, tile):
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            value = function(rows, columns)
            if total is None or weight is None:
                total = value.new_zeros(*value.shape[:2], height, width)
                weight = value.new_zeros(height, width)
            share = window(value.shape[2], value.shape[3], value.device).to(value.dtype)
            total[:, :, rows, columns] += share * value
            weight[rows, columns] += share
    assert total is not None
    assert weight is not None
    return total / weight
