"""Padding of pictures to what the networks take."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

STRIDE = 64  # pixels a position of z


def padded(side: int) -> int:
    """The next multiple of 64."""
    return -(-side // STRIDE) * STRIDE


def pad(x: Tensor) -> Tensor:
    """(B, C, H, W) with H and W raised to multiples of 64 by repeating the last row and column."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, padded(width) - width, 0, padded(height) - height), mode="replicate")
