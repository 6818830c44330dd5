"""The two published PyTorch models, from their descriptions: names, shapes, and plain arithmetic.

Nothing of ours is used here, so that a converted checkpoint can be compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTHS = (60, 120, 240, 480, 960)
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """Those of the published models by default."""

    N: int = 320
    M: int = 220
    widths: tuple[int, ...] = WIDTHS
    blocks: int = 9


TINY = Sizes(N=12, M=10, widths=(6, 8, 10, 12, 14), blocks=2)


def conv(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def conv_transpose(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs, kernel, kernel), f"{name}.bias": (outputs,)}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{leaf}": (1, channels, 1, 1) for leaf in ("gamma", "beta")}


def hific_shapes(sizes: Sizes = Sizes()) -> Shapes:
    """Justin Tan's ``Model`` without its discriminator and its LPIPS."""
    N, M, widths = sizes.N, sizes.M, sizes.widths
    shapes: Shapes = {}
    for k, (inputs, outputs) in enumerate(zip((3, *widths[:-1]), widths, strict=True), start=1):
        shapes |= conv(f"Encoder.conv_block{k}.1", outputs, inputs, 7 if k == 1 else 3)
        shapes |= norm(f"Encoder.conv_block{k}.2", outputs)
    shapes |= conv("Encoder.conv_block_out.1", M, widths[-1], 3)
    top = widths[-1]
    shapes |= norm("Generator.conv_block_init.0", M)
    shapes |= conv("Generator.conv_block_init.2", top, M, 3)
    shapes |= norm("Generator.conv_block_init.3", top)
    for m in range(sizes.blocks):
        for k in (1, 2):
            shapes |= conv(f"Generator.resblock_{m}.conv{k}", top, top, 3)
            shapes |= norm(f"Generator.resblock_{m}.norm{k}", top)
    falling = widths[::-1]
    for k, (inputs, outputs) in enumerate(pairwise(falling), start=1):
        shapes |= conv_transpose(f"Generator.upconv_block{k}.0", outputs, inputs, 3)
        shapes |= norm(f"Generator.upconv_block{k}.1", outputs)
    shapes |= conv("Generator.conv_block_out.1", 3, widths[0], 7)
    shapes |= conv("Hyperprior.analysis_net.conv1", N, M, 3)
    shapes |= conv("Hyperprior.analysis_net.conv2", N, N, 5)
    shapes |= conv("Hyperprior.analysis_net.conv3", N, N, 5)
    for network in ("mu", "std"):
        root = f"Hyperprior.synthesis_{network}"
        shapes |= conv_transpose(f"{root}.conv1", N, N, 5)
        shapes |= conv_transpose(f"{root}.conv2", N, N, 5)
        shapes |= conv_transpose(f"{root}.conv3", M, N, 3)
    filters = (1, 3, 3, 3, 1)
    for k in range(4):
        root = "Hyperprior.hyperlatent_likelihood"
        shapes[f"{root}.H_{k}"] = (N, filters[k + 1], filters[k])
        shapes[f"{root}.a_{k}"] = (N, filters[k + 1], 1)
        shapes[f"{root}.b_{k}"] = (N, filters[k + 1], 1)
    return shapes


def ms_illm_shapes(sizes: Sizes = Sizes()) -> Shapes:
    """NeuralCompression's ``HiFiCAutoencoder`` without the tables of its entropy models."""
    N, M, widths = sizes.N, sizes.M, sizes.widths
    shapes: Shapes = {}
    for k, (inputs, outputs) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
        shapes |= conv(f"encoder.blocks.{k}.0", outputs, inputs, 7 if k == 0 else 3)
        shapes |= norm(f"encoder.blocks.{k}.1", outputs)
    shapes |= conv("encoder.blocks.5", M, widths[-1], 3)
    top = widths[-1]
    shapes |= norm("decoder.block_0.0", M)
    shapes |= conv("decoder.block_0.1", top, M, 3)
    shapes |= norm("decoder.block_0.2", top)
    for m in range(sizes.blocks):
        for k in (0, 3):
            shapes |= conv(f"decoder.resid_blocks.{m}.sequence.{k}", top, top, 3)
            shapes |= norm(f"decoder.resid_blocks.{m}.sequence.{k + 1}", top)
    falling = widths[::-1]
    for k, (inputs, outputs) in enumerate(pairwise(falling)):
        shapes |= conv_transpose(f"decoder.blocks.{k}.0", outputs, inputs, 3)
        shapes |= norm(f"decoder.blocks.{k}.1", outputs)
    shapes |= conv("decoder.blocks.4", 3, widths[0], 7)
    for k, (inputs, kernel) in zip((0, 2, 4), ((M, 3), (N, 5), (N, 5)), strict=True):
        shapes |= conv(f"hyper_analysis.{k}", N, inputs, kernel)
    for network in ("mean", "scale"):
        shapes |= conv_transpose(f"hyper_synthesis_{network}.0", N, N, 5)
        shapes |= conv_transpose(f"hyper_synthesis_{network}.2", N, N, 5)
        shapes |= conv(f"hyper_synthesis_{network}.4", M, N, 3)
    filters = (1, 3, 3, 3, 3, 1)
    for k in range(5):
        shapes[f"hyper_bottleneck.matrices.{k}"] = (N, filters[k + 1], filters[k])
        shapes[f"hyper_bottleneck.biases.{k}"] = (N, filters[k + 1], 1)
        if k < 4:
            shapes[f"hyper_bottleneck.factors.{k}"] = (N, filters[k + 1], 1)
    shapes["hyper_bottleneck.quantiles"] = (N, 1, 3)
    return shapes


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep activations near one; latents a few steps wide."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator)
        if len(shape) == 4 and shape[0] > 1:
            x = x / (shape[1] * shape[2] * shape[3]) ** 0.5
        elif name.endswith("gamma"):
            x = 1 + 0.1 * x
        elif name.endswith("quantiles"):
            x = torch.tensor([-9.0, 0.25, 9.5]).expand(shape).clone()
        else:
            x = 0.3 * x
        state[name] = x
    return state


# -- the arithmetic -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The networks of a published state dict, one after the other.

    Args:
        state: published names.
        border: "reflect" for HiFiC, "constant" for MS-ILLM.
        normalize: images in [-1, 1] inside, tanh at the end.
    """

    state: Mapping[str, Tensor]
    border: str
    normalize: bool

    @property
    def hific(self) -> bool:
        return self.border == "reflect"

    def conv(self, x: Tensor, name: str, margins: tuple[int, ...], stride: int = 1) -> Tensor:
        x = F.pad(x, margins, mode=self.border)
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride)

    def up(self, x: Tensor, name: str, padding: int, stride: int = 2) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding=stride - 1)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean = x.sum(1, keepdim=True) / x.size(1)
        variance = ((x - mean) ** 2).sum(1, keepdim=True) / (x.size(1) - 1)
        gamma, beta = self.state[f"{name}.gamma"], self.state[f"{name}.beta"]
        return gamma * (x - mean) / (variance + 0.001).sqrt() + beta

    def analysis(self, x: Tensor) -> Tensor:
        x = 2 * x - 1 if self.normalize else x
        for k in range(5):
            root = f"Encoder.conv_block{k + 1}" if self.hific else f"encoder.blocks.{k}"
            first = 1 if self.hific else 0
            strided = (0, 1, 1, 0) if self.hific else (1, 1, 1, 1)
            x = self.conv(x, f"{root}.{first}", strided if k else (3, 3, 3, 3), 2 if k else 1)
            x = self.norm(x, f"{root}.{first + 1}").relu()
        return self.conv(
            x, "Encoder.conv_block_out.1" if self.hific else "encoder.blocks.5", (1, 1, 1, 1)
        )

    def block(self, x: Tensor, m: int) -> Tensor:
        if self.hific:
            names = [f"Generator.resblock_{m}.{n}" for n in ("conv1", "norm1", "conv2", "norm2")]
        else:
            names = [f"decoder.resid_blocks.{m}.sequence.{k}" for k in (0, 1, 3, 4)]
        inner = self.norm(self.conv(x, names[0], (1, 1, 1, 1)), names[1]).relu()
        return x + self.norm(self.conv(inner, names[2], (1, 1, 1, 1)), names[3])

    def synthesis(self, y_hat: Tensor, blocks: int) -> Tensor:
        root, places = ("Generator.conv_block_init", (0, 2, 3))
        if not self.hific:
            root, places = "decoder.block_0", (0, 1, 2)
        x = self.norm(y_hat, f"{root}.{places[0]}")
        x = head = self.norm(self.conv(x, f"{root}.{places[1]}", (1,) * 4), f"{root}.{places[2]}")
        for m in range(blocks):
            x = self.block(x, m)
        x = x + head
        for k in range(4):
            root = f"Generator.upconv_block{k + 1}" if self.hific else f"decoder.blocks.{k}"
            x = self.norm(self.up(x, f"{root}.0", 1), f"{root}.1").relu()
        last = "Generator.conv_block_out.1" if self.hific else "decoder.blocks.4"
        x = self.conv(x, last, (3, 3, 3, 3))
        return x.tanh() / 2 + 0.5 if self.normalize else x

    def hyper_analysis(self, y: Tensor) -> Tensor:
        names = [f"Hyperprior.analysis_net.conv{k}" for k in (1, 2, 3)]
        names = names if self.hific else [f"hyper_analysis.{k}" for k in (0, 2, 4)]
        first = [self.state[f"{names[0]}.{leaf}"] for leaf in ("weight", "bias")]
        x = F.conv2d(y, *first, padding=1).relu()  # zeros in both models
        return self.conv(self.conv(x, names[1], (2,) * 4, 2).relu(), names[2], (2,) * 4, 2)

    def hyper_synthesis(self, z_hat: Tensor, which: str) -> Tensor:
        """``which`` is "mean" or "scale"."""
        short = {"mean": "mu", "scale": "std"}[which]
        names = [f"Hyperprior.synthesis_{short}.conv{k}" for k in (1, 2, 3)]
        names = names if self.hific else [f"hyper_synthesis_{which}.{k}" for k in (0, 2, 4)]
        x = self.up(self.up(z_hat, names[0], 2).relu(), names[1], 2).relu()
        if self.hific:
            return self.up(x, names[2], 1, stride=1)
        return self.conv(x, names[2], (1, 1, 1, 1))

    def z_likelihood(self, z: Tensor) -> Tensor:
        """Of a HiFiC: softplus(H) x + b, then + tanh(a) tanh, on all of the four layers."""

        def logits(values: Tensor) -> Tensor:
            root = "Hyperprior.hyperlatent_likelihood"
            for k in range(4):
                H, a, b = (self.state[f"{root}.{n}_{k}"].double() for n in "Hab")
                values = (1 + H.exp()).log() @ values + b
                values = values + a.tanh() * values.tanh()
            return values

        flat = z.double().transpose(0, 1).flatten(1)[:, None]
        low, high = logits(flat - 0.5), logits(flat + 0.5)
        p = high.sigmoid() - low.sigmoid()
        return p[:, 0].view(z.size(1), z.size(0), *z.shape[2:]).transpose(0, 1)
