"""Perceptual losses: networks that judge pictures, with weights already on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from compressai_gen.losses.sizes import check_side
from compressai_gen.metrics.lpips import lpips_network


class _Lpips(nn.Module):
    """LPIPS (Zhang et al. 2018), shape (B,), of images (B, 3, H, W) in [0, 1], in float32.

    Args:
        weights: folder searched first for the trunk.

    Raises:
        MissingWeightsError: the trunk is not on this machine.
        ImageError: called with images of less than 32 pixels a side.
    """

    net: ClassVar[str]

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self.network = lpips_network(self.net, weights)

    def forward(self, x_hat: Tensor, x: Tensor) -> Tensor:
        check_side(x, 32, f"lpips-{self.net}")
        with torch.autocast(x.device.type, enabled=False):
            distance: Tensor = self.network(x_hat.float() * 2 - 1, x.float() * 2 - 1)
        return distance.flatten()

    def train(self, mode: bool = True) -> _Lpips:
        """Stays in evaluation mode: the network judges, it does not learn."""
        return super().train(False)


class LpipsSqueeze(_Lpips):
    """LPIPS with SqueezeNet 1.1."""

    net = "squeeze"


class LpipsAlex(_Lpips):
    """LPIPS with AlexNet."""

    net = "alex"


class LpipsVgg(_Lpips):
    """LPIPS with VGG-16, the usual choice in training."""

    net = "vgg"
