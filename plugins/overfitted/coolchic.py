"""COOL-CHIC's network: grids of latents, an autoregressive model of them, a tiny synthesis.

v1: Ladune, Philippe, Henry, Clare and Leguay, "COOL-CHIC: Coordinate-based Low Complexity
Hierarchical Image Codec", ICCV 2023. v2: Leguay, Ladune, Philippe, Clare and Henry, "Low-complexity
Overfitted Neural Image Codec", MMSP 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen_plugins.overfitted import fused
from compressai_gen_plugins.overfitted.arm_tables import TAIL_BITS
from compressai_gen_plugins.overfitted.blocks import (
    affine,
    at_once,
    mapped,
    summed,
    tiled,
    untiled,
)
from compressai_gen_plugins.overfitted.coolchic_versions import GRIDS, Layer, Version, offsets

SHARPNESS = (-10.0, 13.8155)
"""Limits of the autoregressive model's second output o: its Laplace scale is exp(-o / 2)."""

TAIL = 2.0**-TAIL_BITS
"""See `arm_tables`."""


def grid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of every grid, finest first."""
    return [(-(-height // 2**i), -(-width // 2**i)) for i in range(GRIDS)]


class Arm(nn.Module):
    """The autoregressive model: a pixel's causal neighbourhood to mean and sharpness of its law.

    .. code-block:: none

        neighbours (C) ─► linear + skip ─► ReLU ─► linear + skip ─► ReLU ─► linear ─► mu, o

    Shared by all grids. Trained on whole grids at once, some rows at a time; files are decoded with
    its integers, see `integer_arm`.

    Args:
        version: gives the neighbourhood.
    """

    def __init__(self, version: Version) -> None:
        super().__init__()
        self.radius, self.context = version.radius, version.context
        self.places = np.array(offsets(version.radius)) + version.radius
        layers = [nn.Linear(self.context, n) for n in (self.context, self.context, 2)]
        for layer in layers:
            _start(layer, residual=layer.out_features == self.context, uniform=False)
        self.layers = nn.ModuleList(layers)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """mu and o, each shaped like a grid of latents (1, 1, h, w)."""
        mu, sharpness = self.law(self.neighbours(self.padded(latents)), *self.weights())
        return mu.view_as(latents), sharpness.view_as(latents)

    def rate(self, grids: Sequence[Tensor]) -> Tensor:
        """Bits of grids of latents, each (1, 1, h, w), a scalar.

        On a CPU grid by grid, each some rows at a time, by compiled kernels where they can be
        used; elsewhere all of them in one.
        """
        padded, weights = [self.padded(latents) for latents in grids], self.weights()
        if fused.usable(grids[0]):
            constants = TAIL, *SHARPNESS
            rates = [fused.rate(rows, self.places, constants, weights) for rows in padded]
            return torch.stack(rates).sum()
        if not at_once(grids[0].device):
            rates = [summed(self.rate_of, rows, self.radius, *weights) for rows in padded]
            return torch.stack(rates).sum()
        columns = torch.cat([self.neighbours(rows) for rows in padded], dim=1)
        latents = torch.cat([latents.flatten() for latents in grids])
        return bits(latents, *self.law(columns, *weights)).sum()

    def rate_of(self, rows: Tensor, *weights: Tensor) -> Tensor:
        """Bits of rows with their surroundings (1, radius + h, w + 2 radius), a scalar."""
        radius = self.radius
        inner = rows[0, radius:, radius : rows.shape[2] - radius]
        return bits(inner.reshape(-1), *self.law(self.neighbours(rows), *weights)).sum()

    def neighbours(self, rows: Tensor) -> Tensor:
        """Of every latent of rows with their surroundings, (C, h * w)."""
        window = (self.radius + 1, 2 * self.radius + 1)
        return F.unfold(rows[None], window)[0, : self.context]

    def law(self, columns: Tensor, *weights: Tensor) -> Tensor:
        """mu and o of latents with these neighbours, (2, N)."""
        first, first_bias, second, second_bias, last, last_bias = weights
        h = tiled(columns)
        h = F.relu(affine(first_bias, first, h))
        h = F.relu(affine(second_bias, second, h))
        return untiled(affine(last_bias, last, h), columns.shape[1])

    def padded(self, latents: Tensor) -> Tensor:
        """(1, 1, h, w) with the zeros around it, (1, radius + h, w + 2 radius)."""
        return F.pad(latents[0], (self.radius, self.radius, self.radius, 0))

    def weights(self) -> list[Tensor]:
        """Matrices, the skips in them, and columns of biases."""
        listed: list[Tensor] = []
        for layer in self.layers:
            weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
            if weight.shape[0] == weight.shape[1]:
                weight = weight + torch.eye(weight.shape[0], device=weight.device)
            listed += [weight, bias[:, None]]
        return listed


class Synthesis(nn.ModuleList):
    """Upsampled grids (1, 7, H, W) to the picture (1, 3, H, W), about [0, 1]."""

    def __init__(self, layers: Sequence[Layer], uniform_start: bool) -> None:
        widths = [GRIDS, *(layer.outputs for layer in layers)]
        super().__init__(
            nn.Conv2d(inputs, layer.outputs, layer.kernel)
            for inputs, layer in zip(widths, layers, strict=False)
        )
        self.specification = tuple(layers)
        self.pointwise = sum(layer.kernel == 1 for layer in layers)
        """Layers with kernels of one pixel, which come first."""
        for conv, layer in zip(self, layers, strict=True):
            _start(cast(nn.Conv2d, conv), layer.residual, uniform_start, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights()
        if fused.usable(x):
            rectified = tuple(layer.relu for layer in self.specification[: self.pointwise])
            pixels = fused.pixels(x[0].flatten(1), rectified, weights)
            x = pixels.view(1, -1, *x.shape[2:])
        else:
            x = mapped(self.pixels, x[0], *weights)[None]
        for conv, layer in islice(zip(self, self.specification, strict=True), self.pointwise, None):
            padded = F.pad(x, (layer.kernel // 2,) * 4, mode="replicate")
            if fused.usable(x):  # twice as fast
                padded = padded.contiguous(memory_format=torch.channels_last)
            h = conv(padded)
            h = h + x if layer.residual else h
            x = F.relu(h) if layer.relu else h
        return x

    def pixels(self, x: Tensor, *weights: Tensor) -> Tensor:
        """The first layers, which look at single pixels, (7, h, w) to (C, h, w)."""
        h = tiled(x.flatten(1))
        for layer, weight, bias in zip(
            self.specification, weights[::2], weights[1::2], strict=False
        ):
            h = affine(bias, weight, h)
            h = F.relu(h) if layer.relu else h
        return untiled(h, x[0].numel()).view(-1, *x.shape[1:])

    def weights(self) -> list[Tensor]:
        """Of the first layers: matrices, the skips in them, and columns of biases."""
        listed: list[Tensor] = []
        for conv, layer in islice(zip(self, self.specification, strict=True), self.pointwise):
            weight, bias = cast(Tensor, conv.weight), cast(Tensor, conv.bias)
            matrix = weight[:, :, 0, 0]
            if layer.residual:
                matrix = matrix + torch.eye(layer.outputs, device=matrix.device)
            listed += [matrix, bias[:, None]]
        return listed


class CoolChic(nn.Module):
    """The network of one picture.

    .. code-block:: none

        grids ─► × gain ─► Q ─┬─► up ×2, beside the next finer, ... ─► synthesis ─► x_hat
                              └─► Arm ─► mu, o ─► rate of the integers          Q  rounding

    Gains are the encoder's own business: what is sent are the integers.

    Args:
        version: V1 or V2.
        height, width: of the picture.
    """

    def __init__(self, version: Version, height: int, width: int) -> None:
        super().__init__()
        self.version, self.size = version, (height, width)
        sizes = grid_sizes(height, width)
        self.grids = nn.ParameterList(torch.zeros(1, 1, *size) for size in sizes)
        self.log2_gains = nn.Parameter(torch.arange(GRIDS).float())
        self.arm = Arm(version)
        self.synthesis = Synthesis(version.layers, version.uniform_start)
        self.kernel = nn.Parameter(bicubic_kernel()) if version.learned_upsampling else None

    def latents(self, quantise: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The grids as they are sent, or nearly: scaled, and quantised by a function."""
        gains = (2**self.log2_gains).clamp(min=self.version.least_gain)
        return [quantise(grid * gain) for grid, gain in zip(self.grids, gains, strict=True)]

    def rate(self, latents: Sequence[Tensor]) -> Tensor:
        """Bits of all latents, a scalar."""
        return self.arm.rate(latents)

    def picture(self, latents: Sequence[Tensor]) -> Tensor:
        """x_hat, (1, 3, H, W), not clamped."""
        return self.synthesis(self.upsampled(latents))

    def upsampled(self, latents: Sequence[Tensor]) -> Tensor:
        """All grids at full resolution, (1, 7, H, W), finest first."""
        coarse = latents[-1]
        for finer in reversed(latents[:-1]):
            larger = self.enlarged(coarse)[:, :, : finer.shape[2], : finer.shape[3]]
            coarse = torch.cat([finer, larger], dim=1)
        return coarse

    def enlarged(self, x: Tensor) -> Tensor:
        """Twice as large: every channel by the learned kernel, or bicubic."""
        if fused.usable(x):
            kernel = bicubic_kernel() if self.kernel is None else self.kernel
            return fused.enlarged(F.pad(x, (2,) * 4, mode="replicate")[0], kernel[0, 0])[None]
        if self.kernel is None:
            return bicubic(x)
        padded = F.pad(x.transpose(0, 1), (2,) * 4, mode="replicate")
        larger = F.conv_transpose2d(padded, self.kernel, stride=2)
        return larger[:, :, 7:-7, 7:-7].transpose(0, 1)  # quicker than with padding=7


def bits(latents: Tensor, mu: Tensor, sharpness: Tensor) -> Tensor:
    """Information of latents under the law of the model, each of one shape.

    A Laplace law and beside it a tail, as in a file (`arm_tables`). Published is Laplace alone, and
    16 bits at most: without a slope there, latents that the model does not expect stay.
    """
    inverse = torch.exp(0.5 * sharpness.clamp(*SHARPNESS))
    distance = latents - mu
    edges = torch.stack([distance - 0.5, distance + 0.5]) * inverse
    below, above = edges.sign() * torch.expm1(-edges.abs())  # 1 - 2 times what is below them
    laplace = 0.5 * (1 - math.pi * TAIL) * (below - above)
    return -(laplace + TAIL / (1 + distance.square())).log2()


def bicubic(x: Tensor) -> Tensor:
    """Twice as large, (1, C, h, w): torch's interpolation, on a CPU by rows and columns."""
    if at_once(x.device):
        return F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    even, odd = bicubic_row().flip(0).view(4, 2).T.tolist()
    padded = F.pad(x, (2,) * 4, mode="replicate")
    for dim in (2, 3):
        size = x.shape[dim]
        phases = []
        for first, (weight, *weights) in enumerate((even, odd)):
            phase = weight * padded.narrow(dim, first, size)
            for place, weight in enumerate(weights, first + 1):
                phase = phase.add(padded.narrow(dim, place, size), alpha=weight)
            phases.append(phase)
        padded = torch.stack(phases, dim + 1).flatten(dim, dim + 1)
    return padded


def bicubic_kernel() -> Tensor:
    """The 8x8 transposed kernel of bicubic enlargement by two, (1, 1, 8, 8)."""
    row = bicubic_row()
    return (row[:, None] * row)[None, None]


def bicubic_row() -> Tensor:
    """The same in one dimension, (8,)."""
    a = -0.75  # torch's
    places = (torch.arange(8) - 3.5).abs() / 2
    near = (a + 2) * places**3 - (a + 3) * places**2 + 1
    far = a * places**3 - 5 * a * places**2 + 8 * a * places - 4 * a
    return torch.where(places <= 1, near, far)


@torch.no_grad()
def _start(layer: nn.Linear | nn.Conv2d, residual: bool, uniform: bool, bias: float = 0.0) -> None:
    """Zero weights where there is a skip, otherwise small and random."""
    nn.init.constant_(cast(Tensor, layer.bias), bias)
    if residual:
        nn.init.zeros_(layer.weight)
        return
    if not uniform:  # as torch has made them
        nn.init.normal_(layer.weight)
    layer.weight /= layer.weight.shape[0] ** 2


def parameters_sent(network: CoolChic) -> int:
    """Weights in a file."""
    modules = (network.arm, network.synthesis)
    count = sum(math.prod(p.shape) for m in modules for p in m.parameters())
    return count + (0 if network.kernel is None else network.kernel.numel())
