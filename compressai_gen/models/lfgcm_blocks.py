"""Building blocks of DiffEIC's compression module: residual blocks, and guidance by features.

Li et al., "Toward Extreme Image Compression with Latent Feature Guidance and Diffusion Prior",
TCSVT 2024 (arXiv 2404.18820), Fig. 3. Layers follow the released code, whose weights fit.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.errors import OptionError

Fusion = Literal["concatenation", "addition", "cross-attention"]
FUSIONS = ("concatenation", "addition", "cross-attention")


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution whose output is as large as its input, divided by ``stride``."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def deconv(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    """Transposed convolution whose output is ``stride`` times as large as its input."""
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, kernel // 2, stride - 1)


def feature_layers(inputs: int, outputs: int, first: nn.Module | None = None) -> nn.Sequential:
    """One step of the guidance: a 3x3 layer (``first``, or a plain one), GELU, a 1x1 one."""
    return nn.Sequential(first or conv(inputs, outputs), nn.GELU(), conv(outputs, outputs, 1))


class DownBlock(nn.Module):
    """Residual block that halves the resolution: (B, inputs, H, W) to (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs, stride=2), conv(outputs, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.leaky_relu(self.conv1(x), 0.01))
        return F.leaky_relu(h, 0.1) + self.skip(x)


class UpBlock(nn.Module):
    """Residual block that doubles the resolution: (B, inputs, H, W) to (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enlarge, self.skip = (
            nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)) for _ in range(2)
        )
        self.conv = conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(F.leaky_relu(self.enlarge(x), 0.01))
        return F.leaky_relu(h, 0.1) + self.skip(x)


class Bottleneck(nn.Module):
    """Residual bottleneck of ELIC: 1x1, 3x3, 1x1 with half the channels in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.GELU(),
            conv(half, half),
            nn.GELU(),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Modulation(nn.Module):
    """SFT: a scale and a shift for every number of x, from features; equation 7.

    The paper writes ``alpha x + beta``; the released code, and this, ``(1 + gamma) x + beta``.

    Args:
        channels: of x.
        features: of what guides; 0 for none, and the block does nothing.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.guided = features > 0
        if self.guided:
            self.shared = conv(features, 2 * features)
            self.gamma, self.beta = (conv(2 * features, channels) for _ in range(2))

    def forward(self, x: Tensor, features: Tensor | None) -> Tensor:
        """x, (B, C, h, w), modulated by features (B, F, h', w'), which are averaged to its size."""
        if not self.guided or features is None:
            return x
        features = F.adaptive_avg_pool2d(features, (x.size(2), x.size(3)))
        shared = F.leaky_relu(self.shared(features), 0.2)
        return x * (1 + self.gamma(shared)) + self.beta(shared)


class ModulatedBlock(nn.Module):
    """SFT Resblk: modulation, activation and convolution, twice, around a skip; as in SPADE."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.modulation1, self.modulation2 = (Modulation(channels, features) for _ in range(2))
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)

    def forward(self, x: Tensor, features: Tensor | None) -> Tensor:
        h = self.conv1(F.leaky_relu(self.modulation1(x, features), 0.2))
        return x + self.conv2(F.leaky_relu(self.modulation2(h, features), 0.2))


class FeatureFusion(nn.Module):
    """Features for the modulation, from the guidance and from the latent that is to be guided.

    The paper's Table III compares the three kinds; it gives no layers for the two it rejects. Here
    "addition" brings the guidance to the latent's width by a 1x1 convolution, and
    "cross-attention" lets every position of the latent look at all of the guidance.

    Args:
        guidance: channels of the guidance.
        channels: of the latent.
        features: what comes out.
        kind: one of ``FUSIONS``.

    Raises:
        OptionError: for another kind.
    """

    def __init__(
        self, guidance: int, channels: int, features: int, kind: Fusion = "concatenation"
    ) -> None:
        super().__init__()
        if kind not in FUSIONS:
            raise OptionError(f"fusion {kind!r}: give one of {', '.join(FUSIONS)}")
        self.kind = kind
        if kind == "addition":
            self.project = nn.Conv2d(guidance, channels, 1)
        elif kind == "cross-attention":
            self.query = nn.Conv2d(channels, channels, 1)
            self.key_value = nn.Conv2d(guidance, 2 * channels, 1)
        inputs = channels + (guidance if kind == "concatenation" else 0)
        self.layers = nn.Sequential(
            conv(inputs, 4 * features),
            nn.GELU(),
            conv(4 * features, 2 * features),
            nn.GELU(),
            conv(2 * features, features),
        )

    def forward(self, guidance: Tensor, latent: Tensor) -> Tensor:
        """(B, G, h, w) and (B, C, h, w) to (B, features, h, w)."""
        if self.kind == "concatenation":
            return self.layers(torch.cat([guidance, latent], dim=1))
        if self.kind == "addition":
            return self.layers(latent + self.project(guidance))
        query = self.query(latent).flatten(2).transpose(1, 2)
        key, value = self.key_value(guidance).flatten(2).transpose(1, 2).chunk(2, dim=2)
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.layers(latent + seen.transpose(1, 2).view_as(latent))
