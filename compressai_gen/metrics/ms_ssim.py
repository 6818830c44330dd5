"""Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), by pytorch_msssim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai_gen.metrics.base import Metric

if TYPE_CHECKING:
    from torch import Tensor


class MsSsimRgb(Metric):
    """MS-SSIM averaged over RGB, in [0, 1]; five scales need a shorter side above 160 pixels."""

    name = "ms-ssim-rgb"
    higher_is_better = True
    minimum_side = 161

    def measure(self, reference: Tensor, decoded: Tensor) -> float:
        from pytorch_msssim import ms_ssim

        return float(ms_ssim(reference.float(), decoded.float(), data_range=1.0))
