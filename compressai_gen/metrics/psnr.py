"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compressai_gen.metrics.base import Metric

if TYPE_CHECKING:
    from torch import Tensor


class PsnrRgb(Metric):
    """``10 log10(1 / MSE)`` over all pixels and the three RGB channels; infinite if identical."""

    name = "psnr-rgb"
    unit = "dB"
    higher_is_better = True

    def measure(self, reference: Tensor, decoded: Tensor) -> float:
        mse = float((reference.double() - decoded.double()).square().mean())
        return -10 * math.log10(mse) if mse else math.inf
