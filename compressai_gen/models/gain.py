"""Gain units: one network, many rates.

Cui et al., "Asymmetric Gained Deep Image Compression with Continuous Rate Adaptation", CVPR 2021
(arXiv 2003.02012): a pair of per-channel vectors per rate point scales the latent before rounding
(``gain``) and after it (``inverse_gain``); between two rate points both are interpolated
exponentially (their eq. 8), so that ``gain * inverse_gain`` stays on its curve.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai_gen.errors import OptionError

LEVELS = 10
"""Rate points of a variable-rate model; quality 0 is the lowest rate, 9 the highest."""

QUALITY_STEP = 256
"""A quality is a multiple of 1/256, which is what the file header can hold."""


class GainUnit(nn.Module):
    """Gain and inverse gain of one latent.

    .. code-block:: none

        y ──► × gain(q) ──► round ──► × inverse_gain(q) ──► y_hat

    The parameters are base-2 logarithms, so that interpolation is linear in them.

    Args:
        channels: number of channels C of the latent.
        levels: number of rate points L, at least 2.
        log2_span: the initial gain grows from ``2**(-log2_span/2)`` at quality 0 to
            ``2**(log2_span/2)`` at quality L-1; the initial inverse gain is its reciprocal.
    """

    def __init__(self, channels: int, levels: int = LEVELS, log2_span: float = 0.0) -> None:
        super().__init__()
        ramp = torch.linspace(-0.5, 0.5, levels).mul(log2_span).unsqueeze(1).repeat(1, channels)
        self.log2_gain = nn.Parameter(ramp.clone())
        self.log2_inverse_gain = nn.Parameter(-ramp)

    def gain(self, quality: Tensor) -> Tensor:
        """What the latent is multiplied with before rounding.

        Args:
            quality: shape (B,) or (1,), in [0, L-1].

        Returns:
            shape (B, C, 1, 1), positive.
        """
        return interpolate(self.log2_gain, quality)

    def inverse_gain(self, quality: Tensor) -> Tensor:
        """What the rounded latent is multiplied with; shapes as in :meth:`gain`."""
        return interpolate(self.log2_inverse_gain, quality)


def interpolate(log2_values: Tensor, quality: Tensor) -> Tensor:
    """Exponential interpolation between the rows of ``log2_values`` (Cui et al., eq. 8).

    Args:
        log2_values: shape (L, C).
        quality: shape (B,), in [0, L-1].

    Returns:
        ``2 ** ((1-f) * row[i] + f * row[i+1])`` with i + f = quality, shape (B, C, 1, 1).
    """
    lower = quality.floor().clamp(0, log2_values.size(0) - 2).long()
    fraction = (quality - lower).unsqueeze(1)
    log2 = torch.lerp(log2_values[lower], log2_values[lower + 1], fraction)
    return torch.exp2(log2)[:, :, None, None]


def check_quality(quality: float, levels: int = LEVELS) -> float:
    """``quality`` rounded to the 1/256 grid of the file header.

    Raises:
        OptionError: if it is not a number in [0, levels - 1].
    """
    if not 0 <= quality <= levels - 1:
        raise OptionError(
            f"quality {quality:g} is out of range: give any real number from 0 (smallest file) "
            f"to {levels - 1} (best picture)"
        )
    return round(quality * QUALITY_STEP) / QUALITY_STEP
