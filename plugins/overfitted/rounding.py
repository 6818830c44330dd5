"""What stands in for rounding while COOL-CHIC's latents are trained.

Published for v1 and v2 is uniform noise, as wide as a step to the end: networks are trained for
latents that are worse than a file's. Here that is so while the learning rate is at its highest.
Then latents are rounded softly, given noise that is mostly small, and rounded softly again, ever
less so. Soft rounding is from Agustsson and Theis, "Universally Quantized Neural Compression",
NeurIPS 2020, with such noise it is from Kim et al., "C3: High-performance and low-complexity neural
compression from a single image or video", CVPR 2024; later versions of COOL-CHIC do the like.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHAPE = 2.0
"""First parameter of the law of the noise: 1 is uniform, and C3 goes from 2 to 1."""


def quantised(y: Tensor, uniform: Tensor, temperature: float | None) -> Tensor:
    """Latents as they are trained.

    Args:
        y: of any shape.
        uniform: independent numbers in [0, 1], shaped like y.
        temperature: of soft rounding, above 0; None leaves it away, and the noise uniform.
    """
    if temperature is None:
        return y + uniform - 0.5
    return soft_round(soft_round(y, temperature) + peaked(uniform), temperature)


def soft_round(y: Tensor, temperature: float) -> Tensor:
    """Rising everywhere; leaves integers and halves; rounding as the temperature goes to 0."""
    floor = y.floor()
    inner = torch.tanh((y - floor - 0.5) / temperature) / math.tanh(0.5 / temperature)
    return floor + 0.5 * (inner + 1)


def peaked(uniform: Tensor) -> Tensor:
    """Uniform numbers in [0, 1] to noise in [-0.5, 0.5]: Kumaraswamy's law, its mode at 0."""
    b = (2**SHAPE * (SHAPE - 1) + 1) / SHAPE  # with which the mode is in the middle
    return (1 - (1 - uniform) ** (1 / b)) ** (1 / SHAPE) - 0.5
