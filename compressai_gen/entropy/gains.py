"""Inverse gains of z at any rate point, in integers from end to end.

The interpolation is Cui et al.'s (CVPR 2021, eq. 8): linear between the base-2 logarithms of two
neighbouring rate points. ``2**x`` is the product of two table entries, and the tables come from
integer square roots, so they are the same wherever they are computed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import ACTIVATION_BOUND, config_int, requantise_
from compressai_gen.errors import CodecError, OptionError

LOG2_BITS = 16
"""Fractional bits of a stored logarithm."""

QUALITY_STEP = 256
"""A quality is coded in steps of 1/256."""

MANTISSA_BITS = 30


@cache
def _exp2_tables() -> tuple[list[int], list[int]]:
    """``2**(i/256)`` and ``2**(i/65536)`` for i in 0..255, with MANTISSA_BITS fractional bits."""
    precision = 128
    root, tables = 2 << precision, []
    for _ in range(2):
        for _ in range(8):
            root = math.isqrt(root << precision)
        power, table = 1 << precision, []
        for _ in range(256):
            table.append(_round_shift(power, precision - MANTISSA_BITS))
            power = power * root >> precision
        tables.append(table)
    return tables[0], tables[1]


def _round_shift(value: int, bits: int) -> int:
    return (value + (1 << bits >> 1)) >> bits


def exp2(log2: int, fraction_bits: int) -> int:
    """``2**(log2 / 65536)`` with ``fraction_bits`` fractional bits, rounded; relative error 2e-9.

    Args:
        log2: integer with LOG2_BITS fractional bits, below ``(30 - fraction_bits) << 16``.
        fraction_bits: of the result, 0 to 30.
    """
    coarse, fine = _exp2_tables()
    whole, fraction = log2 >> LOG2_BITS, log2 & 0xFFFF
    mantissa = coarse[fraction >> 8] * fine[fraction & 0xFF] >> MANTISSA_BITS
    return _round_shift(mantissa, max(MANTISSA_BITS - fraction_bits - whole, 0))


class FixedGains(nn.Module):
    """Per-channel inverse gains at L rate points.

    Args:
        levels: rate points L.
        channels: C.
        fraction_bits: of a gain, 0 to 26; such that every gain is below ``2**26`` as an integer.
    """

    log2: Tensor

    def __init__(self, levels: int, channels: int, fraction_bits: int) -> None:
        super().__init__()
        self.register_buffer("log2", torch.zeros(levels, channels, dtype=torch.int32))
        self.fraction_bits = fraction_bits

    def at(self, quality: float | None) -> Tensor:
        """The gains at a rate point: integers with ``fraction_bits`` fractional bits, shape (C,).

        Raises:
            OptionError: if the quality is missing or outside [0, L-1].
        """
        top = self.log2.size(0) - 1
        if quality is None or not 0 <= quality <= top:
            raise OptionError(
                f"quality {quality} is out of range: this checkpoint has rate points 0 to {top}"
            )
        lower, fraction = divmod(round(quality * QUALITY_STEP), QUALITY_STEP)
        rows = self.log2[[lower, min(lower + 1, top)]].long().cpu()
        log2 = rows[0] * (QUALITY_STEP - fraction) + rows[1] * fraction
        log2 = log2.add(QUALITY_STEP // 2) >> 8
        gains = [exp2(value, self.fraction_bits) for value in log2.tolist()]
        return torch.tensor(gains, dtype=torch.float64)

    def scale(self, z_hat: Tensor, quality: float | None) -> Tensor:
        """``z_hat`` (C, h, w) times the gains, requantised; exact as both factors are < 2**26."""
        gains = self.at(quality).clamp_(max=ACTIVATION_BOUND).to(z_hat.device)
        return requantise_(z_hat * gains[:, None, None], self.fraction_bits)

    def config(self) -> dict[str, int]:
        levels, channels = self.log2.shape
        return {"levels": levels, "channels": channels, "fraction_bits": self.fraction_bits}

    @classmethod
    def from_config(cls, config: Any) -> FixedGains:
        return cls(
            config_int(config, "levels", 1, 256),
            config_int(config, "channels", 1, 2**14),
            config_int(config, "fraction_bits", 0, 26),
        )

    @classmethod
    def from_float(cls, log2_gain: Tensor) -> FixedGains:
        """Gains from their base-2 logarithms, shape (L, C).

        Raises:
            CodecError: if one is not finite or beyond 2**+-26.
        """
        log2 = log2_gain.detach().double().cpu()
        if not bool((log2.abs() < 26).all()):
            raise CodecError("an inverse gain of z is beyond 2**26; the training has diverged")
        headroom = max(math.ceil(float(log2.max()) + 0.01), 0)
        fixed = cls(log2.size(0), log2.size(1), 26 - headroom)
        fixed.log2.copy_((log2 * 2**LOG2_BITS).round())
        return fixed
