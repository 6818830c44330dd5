"""Rounding that can be trained through, and where the anchors of a checkerboard lie."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def round_ste(x: Tensor) -> Tensor:
    """Round to integers; the gradient passes straight through."""
    return x + (x.round() - x).detach()


def checkerboard(y: Tensor, parity: Literal["even", "odd"] = "even") -> Tensor:
    """1 at the anchors, 0 elsewhere; shape (h, w) of ``y`` (B, C, h, w).

    Args:
        y: gives size, dtype and device.
        parity: of row + column at the anchors.
    """
    rows = torch.arange(y.size(-2), device=y.device)[:, None]
    columns = torch.arange(y.size(-1), device=y.device)
    return ((rows + columns) % 2 == (parity == "odd")).to(y.dtype)
