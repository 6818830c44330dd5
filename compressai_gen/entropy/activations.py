"""Activations in fixed point: integers in float64 in, integers in float64 out, any shape."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import ONE, config_int
from compressai_gen.errors import CodecError

SLOPE_BITS = 16


class FixedLeakyReLU(nn.Module):
    """``max(x, floor(x * slope / 2**16 + 1/2))``; ReLU is slope 0, 0.01 becomes 655.

    Args:
        slope: 0 to 2**16.
    """

    kind: ClassVar[str] = "leaky_relu"

    def __init__(self, slope: int) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; may overwrite ``x``."""
        if self.slope == 0:
            return x.clamp_(min=0)
        # slope * 2**-16 is exact, and so is its product with |x| < 2**26: at most 43 bits
        scaled = (x * (self.slope * 2.0**-SLOPE_BITS)).add_(0.5).floor_()
        return torch.maximum(x, scaled, out=x)

    def config(self) -> dict[str, Any]:
        return {"slope": self.slope}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedLeakyReLU:
        return cls(config_int(config, "slope", 0, 2**SLOPE_BITS))

    @classmethod
    def from_float(cls, layer: nn.LeakyReLU | nn.ReLU) -> FixedLeakyReLU:
        """Raises CodecError for a slope outside [0, 1]."""
        slope = getattr(layer, "negative_slope", 0.0)
        if not 0 <= slope <= 1:
            raise CodecError(f"LeakyReLU slope {slope:g} is outside [0, 1]; no fixed-point form")
        return cls(round(slope * 2**SLOPE_BITS))


class FixedGELU(nn.Module):
    """``max(x, 0) - d(|x|)`` with the integer table ``d(x) = x * Phi(-x)``, zero beyond 6.

    One table serves both signs: ``x Phi(x) = x - x Phi(-x)`` for positive and ``-|x| Phi(-|x|)``
    for negative x.
    """

    kind: ClassVar[str] = "gelu"
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(6 * ONE + 1, dtype=torch.int16))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; may overwrite ``x``."""
        last = self.table.size(0) - 1
        place = x.abs().clamp_(max=last).long()
        return x.clamp_(min=0).sub_(self.table.to(x.device)[place])

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedGELU:
        return cls()

    @classmethod
    def from_float(cls, layer: nn.GELU) -> FixedGELU:
        """The table of ``layer``, exact or tanh form."""
        fixed = cls()
        x = torch.arange(6 * ONE, dtype=torch.float64) / ONE
        tail = (x - F.gelu(x, approximate=layer.approximate)) * ONE
        fixed.table[:-1] = tail.round().to(torch.int16)
        return fixed
