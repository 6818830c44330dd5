"""What a training run is made of, as frozen dataclasses; plugins hold the values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from compressai_gen.errors import OptionError

Self = TypeVar("Self", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every run has: batches, optimiser, schedule.

    Attributes:
        arguments: constructor arguments of what is trained.
        batch_size: pictures a step and process.
        crop: side of the square crops, in pixels, a multiple of 64.
        learning_rate: of Adam, at the peak of the schedule.
        weight_decay: of Adam, decoupled (AdamW).
        muon: learning rate of Muon for the convolution weights, at the peak of the schedule; with 0
            they are trained by Adam like everything else.
        adam: sub-modules whose convolutions Adam trains even so.
        warmup: share of the run during which the learning rate rises to its peak.
        decay: share of the run, at its end, during which it falls to 1 % along a cosine.
        minutes: length of the run where none is given.
        ema: decay of the exponential moving average of the weights, which is what is exported.
        clip: gradients are clipped to this norm.
        autocast: "bf16" or "no".
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    crop: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    muon: float = 0.0
    adam: tuple[str, ...] = ()
    warmup: float = 0.01
    decay: float = 0.5
    minutes: float = 60.0
    ema: float = 0.999
    clip: float = 1.0
    autocast: str = "bf16"

    def replace(self: Self, **changes: Any) -> Self:
        """A copy with some values changed; None means unchanged."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def with_arguments(self: Self, changes: Mapping[str, Any]) -> Self:
        """A copy with some constructor arguments changed."""
        return self.replace(arguments={**self.arguments, **changes})

    def check(self) -> None:
        """Refuse settings that could only fail later.

        Raises:
            OptionError: naming the setting, what was given and what is allowed.
        """
        if self.crop < 64 or self.crop % 64:
            raise OptionError(f"crop {self.crop} is not a multiple of 64 pixels, at least 64")
        if self.batch_size < 1:
            raise OptionError(f"batch size {self.batch_size}: give at least 1")
        if not 0 < self.minutes < math.inf:
            raise OptionError(f"minutes {self.minutes:g}: give a finite number above 0")
        for name in ("learning_rate", "muon", "weight_decay"):
            rate = getattr(self, name)
            if not 0 <= rate < math.inf:
                told = f"{name.replace('_', ' ')} {rate:g}"
                raise OptionError(f"{told}: give a finite number, at least 0")


@dataclass(frozen=True, kw_only=True)
class VariableRateRecipe(Recipe):
    """How a variable-rate model is trained.

    Attributes:
        architecture: zoo name.
        metric: distortion, a registered loss such as "mse" or "ms-ssim".
        multipliers: lambda of each rate point, from quality 0 up, ascending: for "ms-ssim" if that
            is the metric, otherwise for "mse", and adapted to other metrics.
        same_lambda: leave lambda alone, whatever the metric, as the paper of the losses does. Where
            a metric's numbers are small beside the square error of 8 bits, the rate is then all
            that counts.
        weight_exponent: see :func:`compressai_gen.losses.rate_distortion.balanced_weights`.
    """

    architecture: str
    metric: str = "mse"
    multipliers: tuple[float, ...]
    same_lambda: bool = False
    weight_exponent: float = 0.5

    def check(self) -> None:
        super().check()
        if self.metric == "ms-ssim" and self.crop < 192:
            raise OptionError(f"crop {self.crop} is too small for ms-ssim: give at least 192")
