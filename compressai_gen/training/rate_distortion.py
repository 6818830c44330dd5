"""What a variable-rate model is trained for: rate and distortion at every rate point."""

from __future__ import annotations

import torch
from torch import Tensor

from compressai_gen.losses.exchange import OWN_MULTIPLIERS, adapted
from compressai_gen.losses.loading import load_loss
from compressai_gen.losses.rate_distortion import balanced_weights, rate_distortion
from compressai_gen.models.variable_rate import VariableRateModel
from compressai_gen.training.loop import Losses, Task
from compressai_gen.training.recipe import VariableRateRecipe


class RateDistortionTask(Task):
    """``R + lambda * D``; every picture of a batch has a rate point of its own.

    Lambda is adapted to D, at what the model draws now, so that a rate point has about the rate of
    mse; not to ``mse`` and ``ms-ssim``, nor where the recipe says ``same_lambda``.

    Args:
        model: with rate points as many as the recipe has multipliers.
        recipe: distortion, multipliers, whether these are adapted, weights.
    """

    log_multipliers: Tensor
    log_weights: Tensor

    def __init__(self, model: VariableRateModel, recipe: VariableRateRecipe) -> None:
        super().__init__(recipe.architecture, model)
        self.distortion = load_loss(recipe.metric)
        self.is_adapted = not recipe.same_lambda and recipe.metric not in OWN_MULTIPLIERS
        multipliers = torch.tensor(recipe.multipliers)
        self.register_buffer("log_multipliers", multipliers.log())
        self.register_buffer(
            "log_weights", balanced_weights(multipliers, recipe.weight_exponent).log()
        )

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W): rate-distortion, and the bottleneck's auxiliary one."""
        quality = torch.rand(len(x), device=x.device) * (len(self.log_multipliers) - 1)
        output = self.model(x, quality)
        multipliers = at_quality(self.log_multipliers, quality).exp()
        if self.is_adapted:
            multipliers = adapted(multipliers, output["x_hat"], self.distortion, x)
        weights = at_quality(self.log_weights, quality).exp()
        cost = rate_distortion(output, x, multipliers, weights, self.distortion)
        columns = {
            "loss": cost.loss.expand_as(quality),
            "quality": quality,
            "bits_per_pixel": cost.bits_per_pixel,
            "distortion": cost.distortion,
        }
        return Losses(cost.loss + self.model.aux_loss(), columns)  # type: ignore[operator]


def at_quality(values: Tensor, quality: Tensor) -> Tensor:
    """Linear interpolation of ``values`` (L,) at real positions ``quality`` (B,)."""
    lower = quality.floor().clamp(0, len(values) - 2).long()
    return torch.lerp(values[lower], values[lower + 1], quality - lower)
