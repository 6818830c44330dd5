"""The four transforms of Cheng2020, with a width per resolution.

Layers, order and parameter names are CompressAI's ``cheng2020-anchor`` and ``cheng2020-attn``. The
widths at half, quarter and eighth resolution are free: most of the work happens at half
resolution, so a codec that must train and run on a CPU is narrow there. So is the width of the
hyperprior, which holds most of the parameters. Only the width N of y limits the best picture: the
latent has N numbers for 768 samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressai.layers import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from torch import nn


def analysis_transform(N: int, stages: tuple[int, int, int], attention: bool) -> nn.Sequential:
    """g_a: image (B, 3, H, W) to y (B, N, H/16, W/16).

    Args:
        N: channels of y.
        stages: channels at 1/2, 1/4 and 1/8 of the resolution.
        attention: with the two attention blocks of ``cheng2020-attn``.
    """
    half, quarter, eighth = stages
    return nn.Sequential(
        ResidualBlockWithStride(3, half, stride=2),
        ResidualBlock(half, half),
        ResidualBlockWithStride(half, quarter, stride=2),
        *([AttentionBlock(quarter)] if attention else []),
        ResidualBlock(quarter, quarter),
        ResidualBlockWithStride(quarter, eighth, stride=2),
        ResidualBlock(eighth, eighth),
        conv3x3(eighth, N, stride=2),
        *([AttentionBlock(N)] if attention else []),
    )


def synthesis_transform(N: int, stages: tuple[int, int, int], attention: bool) -> nn.Sequential:
    """g_s: y_hat (B, N, H/16, W/16) to image (B, 3, H, W); arguments as above."""
    half, quarter, eighth = stages
    return nn.Sequential(
        *([AttentionBlock(N)] if attention else []),
        ResidualBlock(N, N),
        ResidualBlockUpsample(N, eighth, 2),
        ResidualBlock(eighth, eighth),
        ResidualBlockUpsample(eighth, quarter, 2),
        *([AttentionBlock(quarter)] if attention else []),
        ResidualBlock(quarter, quarter),
        ResidualBlockUpsample(quarter, half, 2),
        ResidualBlock(half, half),
        subpel_conv3x3(half, 3, 2),
    )


def hyper_analysis_transform(N: int, hyper: int) -> nn.Sequential:
    """h_a: y (B, N, h, w) to z (B, hyper, h/4, w/4)."""
    return nn.Sequential(
        conv3x3(N, hyper),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper, hyper),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper, hyper, stride=2),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper, hyper),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper, hyper, stride=2),
    )


def hyper_synthesis_transform(N: int, hyper: int) -> nn.Sequential:
    """h_s: z_hat (B, hyper, h/4, w/4) to the hyperprior's half of the parameters (B, 2N, h, w)."""
    return nn.Sequential(
        conv3x3(hyper, hyper),
        nn.LeakyReLU(inplace=True),
        subpel_conv3x3(hyper, hyper, 2),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper, hyper * 3 // 2),
        nn.LeakyReLU(inplace=True),
        subpel_conv3x3(hyper * 3 // 2, hyper * 3 // 2, 2),
        nn.LeakyReLU(inplace=True),
        conv3x3(hyper * 3 // 2, 2 * N),
    )


def stage_widths(state_dict: Mapping[str, Any], attention: bool) -> tuple[int, int, int]:
    """``stages`` of the model that ``state_dict`` came from."""
    blocks = ("g_a.0", "g_a.2", "g_a.5" if attention else "g_a.4")
    half, quarter, eighth = (state_dict[f"{b}.conv1.weight"].shape[0] for b in blocks)
    return half, quarter, eighth
