"""A loss network that judges two pictures at a random place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss
from compressai_gen.models.latents import in_fast_order

STRIDE = 16
"""Pixels a side of one position of a latent, or of several."""


def judged(loss: Loss, x_hat: Tensor, x: Tensor) -> Tensor:
    """``loss(x_hat, x)`` of images (B, 3, H, W), shape (B,); a network sees them :func:`moved`."""
    return loss(*moved(x_hat, x)) if isinstance(loss, nn.Module) else loss(x_hat, x)


def moved(x_hat: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both images (B, 3, H, W) without some of their first rows and columns, flipped or turned.

    Otherwise the strides of a loss network lie on the latent's grid, always in the same place, and
    what is trained learns a regular grain that the network takes for texture. Kettunen, Härkönen
    and Lehtinen (E-LPIPS, arXiv 1906.03973) transform at random against such tricks.
    """
    top, left = torch.randint(STRIDE, (2,)).tolist()
    bottom, right = x.size(2) - STRIDE + 1 + top, x.size(3) - STRIDE + 1 + left
    both = torch.cat([x_hat, x])[:, :, top:bottom, left:right]
    flip_rows, flip_columns, turn = (torch.rand(3) < 0.5).tolist()
    both = both.flip([axis for axis, on in ((2, flip_rows), (3, flip_columns)) if on])
    both = both.transpose(2, 3) if turn else both
    x_hat, x = in_fast_order(both).chunk(2)
    return x_hat, x
