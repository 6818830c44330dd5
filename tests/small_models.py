"""Small random-weight models of every architecture, for tests that need one of each."""

from __future__ import annotations

from typing import Any

import torch
from compressai.models import CompressionModel

from compressai_gen.checkpoints import build_model

STOCK: dict[str, dict[str, Any]] = {
    "bmshj2018-factorized": {"N": 16, "M": 24},
    "bmshj2018-factorized-relu": {"N": 16, "M": 24},
    "bmshj2018-hyperprior": {"N": 16, "M": 24},
    "mbt2018-mean": {"N": 16, "M": 24},
    "mbt2018": {"N": 16, "M": 24},
    "cheng2020-anchor": {"N": 16},
    "cheng2020-attn": {"N": 16},
    "bmshj2018-hyperprior-vbr": {"N": 16, "M": 24, "vr_entbttlnck": False},
    "mbt2018-mean-vbr": {"N": 16, "M": 24, "vr_entbttlnck": True},
    "mbt2018-vbr": {"N": 16, "M": 24},
    "cheng2020-anchor-checkerboard": {"N": 16},
    "elic2022-chandelier": {"N": 16, "M": 32, "groups": [8, 8, 16]},
    "elic2022-official": {"N": 16, "M": 32, "groups": [8, 8, 16]},
}
OURS: dict[str, dict[str, Any]] = {
    "cheng2020-anchor-vbr": {"N": 16, "levels": 10},
    "cheng2020-attn-vbr": {"N": 16, "levels": 10},
    "bmshj2018-hyperprior-gain-vbr": {"N": 16, "M": 24, "levels": 10},
    "mbt2018-mean-gain-vbr": {"N": 16, "M": 24, "levels": 10},
    "hific": {"N": 16, "M": 24, "widths": [8, 10, 12, 14, 16], "residual_blocks": 2},
}
PORTABLE = ("bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor-checkerboard", *OURS)
ARCHITECTURES = {**STOCK, **OURS}


def small_model(architecture: str, seed: int = 0) -> CompressionModel:
    """A reproducible model with its tables built, in evaluation mode."""
    torch.manual_seed(seed)
    model = build_model(architecture, ARCHITECTURES[architecture])
    _spread_latents(model)
    model.update()
    return model.eval()


@torch.no_grad()
def _spread_latents(model: CompressionModel) -> None:
    """Scale the last convolution of g_a so that y, hence the strings, is not all zero."""
    last = [module for module in model.g_a.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    factor = 3 / model.g_a(picture()).std()
    for parameter in last.parameters():
        parameter.mul_(factor)


def picture(height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth colours with some noise, shape (1, 3, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    noise = torch.rand(1, 3, height, width, generator=generator) - 0.5
    return (smooth + 0.1 * noise).clamp(0, 1)
