"""The fixed-point number format, and the proof that float64 carries it exactly.

An activation is an integer ``a`` that stands for ``a * 2**-FRACTION_BITS``; it is held in float64.
IEEE 754 adds and multiplies integers below 2**53 without rounding, so a sum of products is exact
in *any* order: with any number of threads, any BLAS, fused multiply-add or not, CPU or GPU. The
only condition is that no partial sum can reach 2**53, which :func:`check_accumulator` proves from
the weights alone, because activations are clamped to ``ACTIVATION_BOUND``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compressai_gen.errors import CheckpointError, CodecError

FRACTION_BITS = 12
"""Fractional bits of every activation, of the medians, the means and the scales."""

ONE = 2**FRACTION_BITS

ACTIVATION_BOUND = 2**26 - 1
"""Every activation is clamped to +-ACTIVATION_BOUND, that is to about +-16384."""

WEIGHT_BOUND = 2**15 - 1
"""Weights are 16 bit integers, symmetric."""

EXACT_BOUND = 2**53
"""Integers below this magnitude are exact in float64."""

ARITHMETIC = {
    "fraction_bits": FRACTION_BITS,
    "activation_bound": ACTIVATION_BOUND,
    "weight_bound": WEIGHT_BOUND,
}
"""What a stored export must agree with; part of its config and so of its fingerprint."""


def clamp_(values: Tensor) -> Tensor:
    """Limit integers to what an activation may be, in place."""
    return values.clamp_(-ACTIVATION_BOUND, ACTIVATION_BOUND)


def to_fixed(values: Tensor) -> Tensor:
    """Real numbers to integers in float64, rounded half to even and clamped to the bound."""
    return clamp_((values.detach().double() * ONE).round())


def to_real(values: Tensor) -> Tensor:
    """Integers in float64 to the float32 nearest to what they stand for (IEEE rounding)."""
    return (values * 2.0**-FRACTION_BITS).float()


def requantise_(accumulator: Tensor, shift: int) -> Tensor:
    """``floor(accumulator * 2**-shift + 1/2)``, clamped to the bound, in place.

    Exact for ``|accumulator| + 2**(shift - 1) < 2**53``: scaling by a power of two is exact, and
    so is adding a half.
    """
    return clamp_(accumulator.mul_(2.0**-shift).add_(0.5).floor_())


def check_accumulator(weight: Tensor, bias: Tensor, shift: int, name: str) -> None:
    """Prove that no partial sum of ``weight @ x + bias`` can leave the exact range.

    Args:
        weight: integers, shape (outputs, anything).
        bias: integers, shape (outputs,).
        shift: of the requantisation that follows.
        name: of the layer, for the message.

    Raises:
        CodecError: if ``ACTIVATION_BOUND * sum|w| + |b| + 2**(shift-1)`` reaches 2**53 for an
            output channel.
    """
    sums = weight.reshape(weight.size(0), -1).long().abs().sum(dim=1).tolist()
    pairs = zip(sums, bias.tolist(), strict=True)  # Python integers: nothing can overflow
    worst = max(w * ACTIVATION_BOUND + abs(b) for w, b in pairs) + 2 ** max(shift - 1, 0)
    if worst >= EXACT_BOUND:
        raise CodecError(
            f"{name}: a sum could reach {worst:.3g}, beyond 2**53 = {EXACT_BOUND:.3g} where "
            "float64 stops being exact; use fewer input channels or a smaller kernel"
        )


def exact_device(device: torch.device) -> torch.device:
    """Where integers in float64 can be computed: ``device`` itself, or the CPU (Apple MPS)."""
    return device if device.type in ("cpu", "cuda") else torch.device("cpu")


def to_float64(integers: Tensor, device: torch.device) -> Tensor:
    """Stored integers as float64 on ``device``; moved first, as MPS has no float64."""
    return integers.to(device).double()


def config_int(config: Any, key: str, low: int, high: int) -> int:
    """An integer out of an untrusted config.

    Raises:
        CheckpointError: if it is missing, not an integer or outside [low, high].
    """
    value = config.get(key) if isinstance(config, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise CheckpointError(
            f"fixed-point config: {key} is {value!r}, expected an integer from {low} to {high}; "
            "the checkpoint is damaged or not one of ours"
        )
    return value
