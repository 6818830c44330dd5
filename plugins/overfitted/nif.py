"""NIF's network: coordinates to colours, with a period that changes over the picture.

Catania and Allegra, "NIF: A Fast Implicit Image Compression with Bottleneck Layers and Modulated
Sinusoidal Activations", ACM MM 2023. The public code has no licence; this is written from the paper
and from its description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from compressai_gen.errors import OptionError

FREQUENCIES, MODULATOR_FREQUENCIES = 16, 4
BASE = 1.4
"""Of the frequencies: base**i * pi."""
PERIOD, SIGMA = 30.0, 10.0
"""The activation is sin((PERIOD + SIGMA m(p)) x) at the position p."""
DRAWN_AT_ONCE = 2**15
"""Pixels: a layer of the widest network that a file may hold then takes 128 MiB."""


@dataclass(frozen=True)
class Sizes:
    """Widths of the hidden layers.

    Attributes:
        hidden: of the main network; narrower with depth ("bottleneck layers").
        modulator: of the one that makes the period.
    """

    hidden: tuple[int, ...]
    modulator: tuple[int, ...]


QUALITIES: dict[int, Sizes] = {
    1: Sizes((120, 40, 28, 16), (16, 8)),
    2: Sizes((120, 50, 28, 16), (24, 16, 8)),
    3: Sizes((200, 64, 40, 20), (64, 16, 8)),
    4: Sizes((280, 100, 48, 16), (64, 16, 8)),
    5: Sizes((360, 150, 70, 32), (64, 16, 8)),
    6: Sizes((450, 220, 85, 32), (64, 16, 8)),
    7: Sizes((680, 260, 65, 30), (64, 16, 8)),
}
"""The published presets 120, 0_31, 200, 280, 360, 450 and 680: the network's size is the rate."""


def sizes_at(quality: float) -> Sizes:
    """Widths of a quality; between published ones the hidden widths are geometric means, and the
    modulator is that of the larger network.

    Raises:
        OptionError: out of range.
    """
    if not 1 <= quality <= len(QUALITIES):
        raise OptionError(f"nif has no quality {quality:g}: give 1 (small) to {len(QUALITIES)}")
    smaller, larger = QUALITIES[math.floor(quality)], QUALITIES[math.ceil(quality)]
    share = quality - math.floor(quality)
    pairs = zip(smaller.hidden, larger.hidden, strict=True)
    return Sizes(tuple(round(a ** (1 - share) * b**share) for a, b in pairs), larger.modulator)


def weight_count(sizes: Sizes) -> int:
    """Weights of a network, biases among them."""
    first, second = 2 + 4 * FREQUENCIES, 2 + 4 * MODULATOR_FREQUENCIES
    widths = ((first, *sizes.hidden, 3), (second, *sizes.modulator, 1))
    return sum((a + 1) * b for row in widths for a, b in pairwise(row))


def encoded(positions: Tensor, frequencies: int) -> Tensor:
    """Positions (P, 2) in [-1, 1] with their sines and cosines, (P, 2 + 4 frequencies)."""
    factors = math.pi * BASE ** torch.arange(frequencies, device=positions.device)
    angles = positions[:, None, :] * factors[:, None]
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1)
    return torch.cat([positions, waves.flatten(1)], dim=1)


def grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Row and column of every pixel in raster order, in [-1, 1], shape (height * width, 2)."""
    rows, columns = (torch.linspace(-1, 1, max(n, 2), device=device)[:n] for n in (height, width))
    return torch.cartesian_prod(rows, columns)


class Nif(nn.Module):
    """The network of one picture.

    .. code-block:: none

        position ─┬─► encoding (66) ─► linear ─► sin(period ·) ─► linear ─► ... ─► linear ─► RGB
                  └─► encoding (18) ─► linear ─► sin(30 ·) ─► ... ─► m ─► period = 30 + 10 m

    Args:
        sizes: widths.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.layers = _layers(2 + 4 * FREQUENCIES, sizes.hidden, 3)
        self.modulator = _layers(2 + 4 * MODULATOR_FREQUENCIES, sizes.modulator, 1)

    def forward(self, features: Tensor, modulation: Tensor) -> Tensor:
        """Colours of some positions, (P, 3), about [-1, 1].

        Args:
            features: ``encoded(positions, FREQUENCIES)``, shape (P, 66).
            modulation: ``encoded(positions, MODULATOR_FREQUENCIES)``, shape (P, 18).
        """
        m = modulation
        for layer in self.modulator[:-1]:
            m = torch.sin(PERIOD * layer(m))
        period = PERIOD + SIGMA * self.modulator[-1](m)
        h = features
        for layer in self.layers[:-1]:
            h = torch.sin(period * layer(h))
        return self.layers[-1](h)

    @torch.no_grad()
    def picture(self, height: int, width: int) -> Tensor:
        """The whole picture, (1, 3, height, width) in [0, 1], some pixels at a time."""
        positions = grid(height, width, next(self.parameters()).device)
        parts = [self(*features(part)) for part in positions.split(DRAWN_AT_ONCE)]
        colours = torch.cat(parts).view(height, width, 3).permute(2, 0, 1)
        return ((colours + 1) / 2).clamp(0, 1)[None]


def features(positions: Tensor) -> tuple[Tensor, Tensor]:
    """What the network takes for positions (P, 2)."""
    return encoded(positions, FREQUENCIES), encoded(positions, MODULATOR_FREQUENCIES)


def _layers(inputs: int, hidden: Sequence[int], outputs: int) -> nn.ModuleList:
    """Linear layers with the initial weights of sinusoidal networks (Sitzmann et al. 2020)."""
    widths = [inputs, *hidden, outputs]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    for number, layer in enumerate(layers):
        fan = layer.in_features
        bound = math.sqrt(6 / fan) / PERIOD if number else 1 / fan
        nn.init.uniform_(layer.weight, -bound, bound)
    return nn.ModuleList(layers)
