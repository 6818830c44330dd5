"""COOL-CHIC's networks as multiples of powers of two, and which powers are worth their bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.weights import pack_levels

ARM_WEIGHT_BITS, ARM_BIAS_BITS = 8, 16
"""Finest steps, 2**-bits: those of the integer model."""
FINEST = 15
"""Of the other networks."""


@dataclass(frozen=True)
class Steps:
    """Fractional bits of the weights in a file.

    Attributes:
        arm_weight, arm_bias: of the autoregressive model.
        weight, bias: of the synthesis.
        kernel: of the upsampling.
    """

    arm_weight: int = ARM_WEIGHT_BITS
    arm_bias: int = ARM_BIAS_BITS
    weight: int = FINEST
    bias: int = FINEST
    kernel: int = FINEST


def tensors(network: CoolChic, steps: Steps) -> list[tuple[nn.Parameter, int]]:
    """Every tensor of a file with its fractional bits, in the order of the file."""
    listed = []
    for module, weight, bias in (
        (network.arm, steps.arm_weight, steps.arm_bias),
        (network.synthesis, steps.weight, steps.bias),
    ):
        for parameter in module.parameters():
            listed.append((parameter, bias if parameter.dim() == 1 else weight))
    if network.kernel is not None:
        listed.append((network.kernel, steps.kernel))
    return listed


def levels(network: CoolChic, steps: Steps) -> list[Tensor]:
    """The integers of a file, in float."""
    limit = 2**14 - 1
    return [
        (p.detach() * 2.0**bits).round().clamp(-limit, limit) for p, bits in tensors(network, steps)
    ]


@torch.no_grad()
def put(network: CoolChic, values: Iterable[Tensor], steps: Steps) -> None:
    """Give the network the weights that such integers stand for."""
    for (parameter, bits), level in zip(tensors(network, steps), values, strict=True):
        parameter.copy_((level.double() * 2.0**-bits).to(parameter))


def weight_bits(network: CoolChic, steps: Steps) -> int:
    """Bits of all weights in a file."""
    rows, stream, _ = pack_levels(levels(network, steps))
    return 8 * (len(rows) + len(stream))


@torch.no_grad()
def quantise(
    network: CoolChic,
    latents: list[Tensor],
    distortion: Callable[[Tensor], Tensor],
    multiplier: float,
) -> Steps:
    """Choose steps, and round the network to them.

    Greedy, one kind of weights after the other, with what it changes evaluated alone: the
    autoregressive model changes the rate of the latents only, the others the picture only.

    Args:
        network: changed in place.
        latents: rounded.
        distortion: of a picture x_hat.
        multiplier: of the bits.
    """
    trained = [p.detach().clone() for p, _ in tensors(network, Steps())]
    upsampled = network.upsampled(latents)
    effects: dict[str, Callable[[], Tensor]] = {
        "arm_weight": lambda: multiplier * network.rate(latents),
        "arm_bias": lambda: multiplier * network.rate(latents),
        "weight": lambda: distortion(network.synthesis(upsampled)),
        "bias": lambda: distortion(network.synthesis(upsampled)),
        "kernel": lambda: distortion(network.picture(latents)),
    }
    if network.kernel is None:
        del effects["kernel"]
    steps = Steps()
    for name, effect in effects.items():
        finest, costs = getattr(Steps(), name), {}
        for bits in range(max(0, finest - 11), finest + 1):
            tried = Steps(**{**vars(steps), name: bits})
            _restore(network, trained)
            put(network, levels(network, tried), tried)
            costs[bits] = float(effect()) + multiplier * weight_bits(network, tried)
        steps = Steps(**{**vars(steps), name: min(costs, key=lambda bits: costs[bits])})
    _restore(network, trained)
    put(network, levels(network, steps), steps)
    return steps


def _restore(network: CoolChic, trained: list[Tensor]) -> None:
    for (parameter, _), value in zip(tensors(network, Steps()), trained, strict=True):
        parameter.copy_(value)
