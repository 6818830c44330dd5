"""What is known of a metric by its name alone: which way is better, its unit, how it is plotted."""

from __future__ import annotations

import math
from collections.abc import Iterable

#: metrics that result files of others hold and we do not compute; matched up to the first "-"
LOWER_IS_BETTER = frozenset(
    ("lpips", "dists", "fid", "kid", "niqe", "mse", "pieapp", "brisque", "pi", "rmse")
)


def higher_is_better(name: str) -> bool:
    """Which way metric `name` improves: by its class if registered, by convention otherwise."""
    from compressai_gen.plugins import registry

    metrics = registry("metrics")
    if name in metrics:
        return bool(metrics.load(name).higher_is_better)
    return name.lower().split("-")[0] not in LOWER_IS_BETTER


def unit(name: str) -> str:
    """``"dB"`` for PSNR and, on its decibel scale, MS-SSIM; empty for a pure number."""
    return "dB" if name.startswith(("psnr", "ms-ssim")) else ""


def rescaled(name: str, values: Iterable[float]) -> list[float]:
    """Values as compared and drawn: MS-SSIM as ``-10 log10(1 - x)`` dB, the others unchanged."""
    if not name.startswith("ms-ssim"):
        return list(values)
    return [-10 * math.log10(1 - value) if value < 1 else math.inf for value in values]
