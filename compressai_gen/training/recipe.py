"""What a training run is made of, as a frozen dataclass; plugins hold the values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a variable-rate model is trained.

    Attributes:
        architecture: zoo name.
        arguments: constructor arguments of the model.
        metric: distortion, "mse" or "ms-ssim".
        multipliers: lambda of each rate point, from quality 0 up, ascending.
        weight_exponent: see :func:`compressai_gen.losses.rate_distortion.balanced_weights`.
        batch_size: pictures a step and process.
        crop: side of the square crops, in pixels, a multiple of 64.
        learning_rate: of Adam, at the peak of the schedule.
        muon: learning rate of Muon for the convolution weights, at the peak of the schedule; with 0
            they are trained by Adam like everything else.
        warmup: share of the run during which the learning rate rises to its peak.
        decay: share of the run, at its end, during which it falls to 1 % along a cosine.
        minutes: length of the run where none is given.
        ema: decay of the exponential moving average of the weights, which is what is exported.
        clip: gradients are clipped to this norm.
        autocast: "bf16" or "no".
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "mse"
    multipliers: tuple[float, ...] = ()
    weight_exponent: float = 0.5
    batch_size: int = 8
    crop: int = 256
    learning_rate: float = 1e-4
    muon: float = 0.0
    warmup: float = 0.01
    decay: float = 0.5
    minutes: float = 60.0
    ema: float = 0.999
    clip: float = 1.0
    autocast: str = "bf16"

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some values changed; None means unchanged."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})
