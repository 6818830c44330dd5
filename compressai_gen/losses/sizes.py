"""Losses that judge pictures of some size only."""

from __future__ import annotations

from torch import Tensor

from compressai_gen.errors import ImageError


def check_side(x: Tensor, least: int, name: str) -> None:
    """Refuse pictures (..., H, W) that a loss cannot judge.

    Raises:
        ImageError: if the shorter side has fewer than ``least`` pixels.
    """
    height, width = x.shape[-2:]
    if min(height, width) < least:
        raise ImageError(
            f"{width}x{height}: {name} needs at least {least} pixels on the shorter side; take "
            "larger pictures, or a loss such as mse or l1-ssim"
        )
