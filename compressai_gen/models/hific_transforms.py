"""The four transforms of HiFiC (Mentzer et al., NeurIPS 2020, arXiv 2006.09965).

They follow the two public PyTorch models, whose weights fit without a change of shape: Justin Tan's
HiFiC (reflected borders) and NeuralCompression's MS-ILLM and No-GAN (zero borders).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["reflect", "zeros"]
Margins = tuple[int, int, int, int]

WIDTHS = (60, 120, 240, 480, 960)
"""Channels at 1, 1/2, 1/4, 1/8 and 1/16 of the resolution, as published."""

RESIDUAL_BLOCKS = 9


class ChannelNorm(nn.Module):
    """The paper's ChannelNorm: normalisation over the channels of each position.

    ``gamma (x - mean) / sqrt(variance + 1e-3) + beta``, with the unbiased variance.

    Args:
        channels: C, at least 2; input and output have the shape (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        return torch.addcmul(self.beta, (x - mean) * torch.rsqrt(variance + 1e-3), self.gamma)


class PaddedConv2d(nn.Conv2d):
    """Convolution with margins of its own on each side, reflected or zero.

    Unlike ``nn.Conv2d`` it reflects again and again where a margin is as wide as the picture, so
    that pictures of 64 pixels work; on wider ones there is no difference.

    Args:
        inputs, outputs, kernel, stride: as in ``nn.Conv2d``.
        margins: left, right, top and bottom.
        border: "reflect" or "zeros".
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        margins: Margins,
        border: Padding,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.margins, self.border = margins, border

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(padded(x, self.margins, self.border))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margins={self.margins}, border={self.border}"


def padded(x: Tensor, margins: Margins, border: Padding) -> Tensor:
    """(B, C, H, W) with margins left, right, top and bottom."""
    if border == "zeros":
        return F.pad(x, margins)
    height, width = x.shape[-2:]
    if max(margins[:2]) < width and max(margins[2:]) < height:
        return F.pad(x, margins, mode="reflect")
    columns = _reflected(width, *margins[:2]).to(x.device)
    rows = _reflected(height, *margins[2:]).to(x.device)
    return x.index_select(-1, columns).index_select(-2, rows)


def _reflected(size: int, before: int, after: int) -> Tensor:
    """Where each place of a reflected axis comes from: a triangle wave over 0 ... size - 1."""
    period = max(2 * (size - 1), 1)
    place = torch.arange(-before, size + after).remainder(period)
    return torch.minimum(place, period - place)


class ResidualBlock(nn.Sequential):
    """``x + norm(conv(relu(norm(conv(x)))))``, (B, C, H, W) to the same shape."""

    def __init__(self, channels: int, border: Padding) -> None:
        super().__init__(
            _conv(channels, channels, 3, border),
            ChannelNorm(channels),
            nn.ReLU(inplace=True),
            _conv(channels, channels, 3, border),
            ChannelNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Encoder(nn.Sequential):
    """``g_a``: (B, 3, H, W) in [0, 1] to y, (B, M, H/16, W/16).

    .. code-block:: none

        x ─► conv7 60 ─► 4 × conv3 ↓2 (120, 240, 480, 960) ─► conv3 M ─► y
             └──────── each but the last with ChannelNorm, ReLU ────────┘

    Args:
        widths: channels at the five resolutions.
        M: channels of y.
        normalize: stretch the input to [-1, 1] first.
        border: "reflect" (stride 2 looks one row up, one column right) or "zeros".
    """

    def __init__(self, widths: Sequence[int], M: int, normalize: bool, border: Padding) -> None:
        layers: list[nn.Module] = [*_normed(_conv(3, widths[0], 7, border))]
        # At stride 2 and even sizes a margin on the other side would never be read.
        margins = (0, 1, 1, 0) if border == "reflect" else (1, 0, 1, 0)
        for inputs, outputs in pairwise(widths):
            layers += _normed(PaddedConv2d(inputs, outputs, 3, 2, margins, border))
        super().__init__(*layers, _conv(widths[-1], M, 3, border))
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x - 1 if self.normalize else x)


class Generator(nn.Module):
    """``g_s``: y_hat, (B, M, h, w), to an image, (B, 3, 16 h, 16 w), not clamped.

    .. code-block:: none

        y_hat ─► norm, conv3, norm ─┬─► residual blocks ─► + ─► 4 × upconv3 ↑2 ─► conv7 ─► x_hat
                                    └──────────────────────┘    with norm, ReLU

    Args:
        widths: channels at the five resolutions, the finest first.
        M: channels of y.
        residual_blocks: at least 1.
        normalize: end in tanh, moved from [-1, 1] to [0, 1].
        border: "reflect" or "zeros"; the transposed convolutions are the same in both.
    """

    def __init__(
        self,
        widths: Sequence[int],
        M: int,
        residual_blocks: int,
        normalize: bool,
        border: Padding,
    ) -> None:
        super().__init__()
        coarse_first = widths[::-1]
        width = coarse_first[0]
        self.head = nn.Sequential(ChannelNorm(M), _conv(M, width, 3, border), ChannelNorm(width))
        self.body = nn.Sequential(*(ResidualBlock(width, border) for _ in range(residual_blocks)))
        tail: list[nn.Module] = []
        for inputs, outputs in pairwise(coarse_first):
            tail += _normed(nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1))
        self.tail = nn.Sequential(*tail, _conv(widths[0], 3, 7, border))
        self.normalize = normalize

    def forward(self, y_hat: Tensor) -> Tensor:
        head = self.head(y_hat)
        image = self.tail(head + self.body(head))
        return (torch.tanh(image) + 1) / 2 if self.normalize else image


def hyper_analysis(M: int, N: int, border: Padding) -> nn.Sequential:
    """``h_a``: y, (B, M, h, w), to z, (B, N, h/4, w/4); the first border is zero in both models."""
    margins = (2, 2, 2, 2)
    return nn.Sequential(
        nn.Conv2d(M, N, 3, padding=1),
        nn.ReLU(inplace=True),
        PaddedConv2d(N, N, 5, 2, margins, border),
        nn.ReLU(inplace=True),
        PaddedConv2d(N, N, 5, 2, margins, border),
    )


def hyper_synthesis(M: int, N: int) -> nn.Sequential:
    """``h_s``: z_hat, (B, N, h, w), to scales_hat and means_hat, (B, 2 M, 4 h, 4 w).

    The published models have a network for the scales and one for the means. They lie side by side
    here, the scales first: the first layer has the outputs of both, the others two groups.
    """
    return nn.Sequential(
        nn.ConvTranspose2d(N, 2 * N, 5, 2, 2, output_padding=1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(2 * N, 2 * N, 5, 2, 2, output_padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(2 * N, 2 * M, 3, padding=1, groups=2),
    )


def _conv(inputs: int, outputs: int, kernel: int, border: Padding) -> PaddedConv2d:
    margin = kernel // 2
    return PaddedConv2d(inputs, outputs, kernel, 1, (margin,) * 4, border)


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [conv, ChannelNorm(conv.out_channels), nn.ReLU(inplace=True)]
