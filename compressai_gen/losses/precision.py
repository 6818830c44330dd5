"""The precision that losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def single(x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, or as precise as they are: in half precision small squares are zero."""
    dtype = torch.promote_types(torch.promote_types(x_hat.dtype, x.dtype), torch.float32)
    return x_hat.to(dtype), x.to(dtype)
