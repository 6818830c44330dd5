"""Published tensors to ours, by name: which module is which, and what is laid side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from compressai_gen.checkpoints.renaming import Modules, pairs, renamed
from compressai_gen.errors import CheckpointError

HIFIC_DROPPED = (
    "Discriminator.",  # training only
    "perceptual_loss.",
    "Hyperprior.hyperprior_entropy_model.",  # tables, which are built anew, and a second copy of
    "Hyperprior.prior_entropy_model.",  # what hyperlatent_likelihood holds
    "Hyperprior.prior_density.",
)


def hific_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ``model_state_dict`` of Justin Tan's HiFiC under our names.

    Its transposed last layer of the hyper-synthesis has stride 1, which is the convolution with the
    mirrored kernel. ``H_k``, ``b_k`` and ``a_k`` are CompressAI's matrices, biases and factors.

    Raises:
        CheckpointError: if a tensor of the hyper-synthesis is missing.
    """
    state = {k: v for k, v in published.items() if not k.startswith(HIFIC_DROPPED)}
    scales = _take(state, [f"Hyperprior.synthesis_std.conv{k}" for k in (1, 2, 3)])
    means = _take(state, [f"Hyperprior.synthesis_mu.conv{k}" for k in (1, 2, 3)])
    for network in (scales, means):
        network["4.weight"] = network["4.weight"].flip(2, 3).transpose(0, 1)
    state = renamed(state, _hific_modules(_blocks(state, "Generator.resblock_{}.conv1.weight")))
    return {**state, **_side_by_side(scales, means)}


def ms_illm_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of NeuralCompression's ``HiFiCAutoencoder`` under our names.

    Raises:
        CheckpointError: if a tensor of the hyper-synthesis is missing.
    """
    state = dict(published)
    scales = _take(state, [f"hyper_synthesis_scale.{k}" for k in (0, 2, 4)])
    means = _take(state, [f"hyper_synthesis_mean.{k}" for k in (0, 2, 4)])
    blocks = _blocks(state, "decoder.resid_blocks.{}.sequence.0.weight")
    return {**renamed(state, _ms_illm_modules(blocks)), **_side_by_side(scales, means)}


def _hific_modules(blocks: int) -> Modules:
    modules = {"Encoder.conv_block_out.1": "g_a.15", "Generator.conv_block_out.1": "g_s.tail.12"}
    for k in range(5):
        modules |= pairs(f"Encoder.conv_block{k + 1}", (1, 2), "g_a", (3 * k, 3 * k + 1))
    modules |= pairs("Generator.conv_block_init", (0, 2, 3), "g_s.head", (0, 1, 2))
    layers = ("conv1", "norm1", "conv2", "norm2")
    for k in range(blocks):
        modules |= pairs(f"Generator.resblock_{k}", layers, f"g_s.body.{k}", (0, 1, 3, 4))
    for k in range(4):
        ours = (3 * k, 3 * k + 1)
        modules |= pairs(f"Generator.upconv_block{k + 1}", (0, 1), "g_s.tail", ours)
    convolutions = ("conv1", "conv2", "conv3")
    modules |= pairs("Hyperprior.analysis_net", convolutions, "h_a", (0, 2, 4))
    for theirs, our in (("H", "matrices"), ("b", "biases"), ("a", "factors")):
        for k in range(4):
            name = f"Hyperprior.hyperlatent_likelihood.{theirs}_{k}"
            modules[name] = f"entropy_bottleneck.{our}.{k}"
    return modules


def _ms_illm_modules(blocks: int) -> Modules:
    modules = {
        "encoder.blocks.5": "g_a.15",
        "decoder.blocks.4": "g_s.tail.12",
        "hyper_bottleneck": "entropy_bottleneck",
        "latent_bottleneck": "gaussian_conditional",
    }
    for k in range(5):
        modules |= pairs(f"encoder.blocks.{k}", (0, 1), "g_a", (3 * k, 3 * k + 1))
    modules |= pairs("decoder.block_0", (0, 1, 2), "g_s.head", (0, 1, 2))
    layers = (0, 1, 3, 4)
    for k in range(blocks):
        modules |= pairs(f"decoder.resid_blocks.{k}.sequence", layers, f"g_s.body.{k}", layers)
    for k in range(4):
        modules |= pairs(f"decoder.blocks.{k}", (0, 1), "g_s.tail", (3 * k, 3 * k + 1))
    return modules | pairs("hyper_analysis", (0, 2, 4), "h_a", (0, 2, 4))


def _blocks(state: Mapping[str, Tensor], pattern: str) -> int:
    return sum(pattern.format(k) in state for k in range(len(state)))


def _take(state: dict[str, Tensor], layers: Iterable[str]) -> dict[str, Tensor]:
    """Move the three layers of a hyper-synthesis out of ``state``, under the numbers of ours."""
    taken = {}
    for k, layer in zip((0, 2, 4), layers, strict=True):
        for leaf in ("weight", "bias"):
            if f"{layer}.{leaf}" not in state:
                raise CheckpointError(f"the tensor {layer}.{leaf} is missing")
            taken[f"{k}.{leaf}"] = state.pop(f"{layer}.{leaf}")
    return taken


def _side_by_side(scales: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Two networks as one: a shared input, then two groups (a transposed weight lists inputs)."""
    axis = {"0.weight": 1}
    return {f"h_s.{k}": torch.cat([scales[k], means[k]], axis.get(k, 0)) for k in scales}
