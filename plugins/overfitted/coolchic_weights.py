"""COOL-CHIC's networks as multiples of powers of two, and which powers are worth their bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.weights import pack_levels

ARM_WEIGHT_BITS, ARM_BIAS_BITS = 8, 16
"""Finest steps, 2**-bits: those of the integer model."""
FINEST = 15
"""Of the other networks."""
LARGEST = 2**14 - 1
"""Integer in a file: a weight of 0.5 has not as many as 15 fractional bits."""


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


def kinds(network: CoolChic) -> dict[str, str]:
    """Parameters of a file, in its order, and the kind of each: a name in `Steps`."""
    found = {}
    for name, parameter in network.named_parameters():
        part, bias = name.split(".")[0], parameter.dim() == 1
        if part == "arm":
            found[name] = "arm_bias" if bias else "arm_weight"
        elif part == "synthesis":
            found[name] = "bias" if bias else "weight"
    return found if network.kernel is None else {**found, "kernel": "kernel"}


def tensors(network: CoolChic) -> list[tuple[nn.Parameter, str]]:
    """The same, as pairs of a parameter and its kind."""
    named = dict(network.named_parameters())
    return [(named[name], kind) for name, kind in kinds(network).items()]


def levels(network: CoolChic, steps: Steps) -> list[Tensor]:
    """The integers of a file, in float."""
    return [nearest(p.detach(), getattr(steps, kind)) for p, kind in tensors(network)]


def nearest(weights: Tensor, bits: int) -> Tensor:
    """Integers that stand for weights with so many fractional bits, in float."""
    return (weights * 2.0**bits).round().clamp(-LARGEST, LARGEST)


def meant(values: Tensor, bits: int) -> Tensor:
    """What such integers stand for, in double precision."""
    return values.double() * 2.0**-bits


def rounded(weights: Tensor, bits: Sequence[int]) -> Tensor:
    """A parameter of several networks, (N, ...), as their files hold it."""
    rows = zip(weights.detach(), bits, strict=True)
    return torch.stack([meant(nearest(row, own), own).float() for row, own in rows])


@torch.no_grad()
def put(network: CoolChic, values: Iterable[Tensor], steps: Steps) -> None:
    """Give the network the weights that such integers stand for."""
    for (parameter, kind), value in zip(tensors(network), values, strict=True):
        parameter.copy_(meant(value, getattr(steps, kind)))


def weight_bits(network: CoolChic, steps: Steps) -> int:
    """Bits of all weights in a file."""
    rows, stream, _ = pack_levels(levels(network, steps))
    return 8 * (len(rows) + len(stream))


@torch.no_grad()
def choose_steps(
    network: CoolChic,
    latents: list[Tensor],
    distortion: Callable[[Tensor], Tensor],
    multiplier: float,
) -> Steps:
    """The steps that are worth their bits.

    Greedy, one kind of weights after the other, with what it changes evaluated alone: the
    autoregressive model changes the rate of the latents only, the others the picture only. Kinds
    whose turn is still to come are as they were trained.

    Args:
        network: as trained; it stays so.
        latents: rounded.
        distortion: of a picture x_hat.
        multiplier: of the bits.
    """
    trained = [p.detach().clone() for p, _ in tensors(network)]
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
    steps, rounded = Steps(), []
    for name, effect in effects.items():
        rounded.append(name)
        finest, costs = getattr(Steps(), name), {}
        for bits in range(max(0, finest - 11), finest + 1):
            tried = replace(steps, **{name: bits})
            for (parameter, kind), value in zip(tensors(network), trained, strict=True):
                own = getattr(tried, kind)
                parameter.copy_(meant(nearest(value, own), own) if kind in rounded else value)
            costs[bits] = float(effect()) + multiplier * weight_bits(network, tried)
        steps = replace(steps, **{name: min(costs, key=lambda bits: costs[bits])})
    for (parameter, _), value in zip(tensors(network), trained, strict=True):
        parameter.copy_(value)
    return steps
