"""A registered loss as a criterion of CompressAI's training scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.losses.exchange import OWN_MULTIPLIERS, adapted
from compressai_gen.losses.loading import load_loss
from compressai_gen.losses.rate_distortion import bits_per_pixel


class PictureRateDistortionLoss(nn.Module):
    """``R + lmbda * D`` for any registered D, in CompressAI's registry of criterions.

    ``CRITERIONS["PictureRateDistortionLoss"](lmbda=0.01, loss="lc-ssim")`` takes the place of its
    ``RateDistortionLoss``, with the same lambdas.

    Args:
        lmbda: weight of the distortion: of ``ms-ssim`` on its own scale, otherwise of the square
            error of 8-bit images, as in ``RateDistortionLoss``, and adapted to the loss for every
            picture; see `exchange`.
        loss: name of a registered loss.
        same_lambda: leave lambda alone, whatever the loss, as the paper of the losses does. Others
            than ``mse`` are of images in [0, 1], where the square of an error is 255**2 times
            smaller: a lambda of mse is none for them.
        data_scale, alpha: as for :func:`load_loss`.

    Raises:
        UnknownNameError: no such loss.
        OptionError: the loss has no such setting, or it is not a finite number above 0.
        MissingWeightsError: its weights are not on this machine.
    """

    def __init__(
        self,
        lmbda: float = 0.01,
        loss: str = "mse",
        same_lambda: bool = False,
        data_scale: float | None = None,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        self.lmbda, self.name = lmbda, loss
        self.distortion: Any = load_loss(loss, data_scale=data_scale, alpha=alpha)
        self.is_adapted = not same_lambda and loss not in OWN_MULTIPLIERS

    def forward(
        self, output: Mapping[str, Tensor | Mapping[str, Tensor]], target: Tensor
    ) -> dict[str, Tensor]:
        """``bpp_loss``, ``distortion_loss`` and ``loss``, scalars; and ``mse_loss``, the mean
        square error over [0, 1] that CompressAI's training script prints whatever it trains.

        Args:
            output: ``x_hat`` and ``likelihoods`` of a model's forward pass.
            target: images (B, 3, H, W) in [0, 1].
        """
        rate = bits_per_pixel(output["likelihoods"], target).mean()  # type: ignore[arg-type]
        x_hat: Tensor = output["x_hat"]  # type: ignore[assignment]
        distances = self.distortion(x_hat, target)
        weighted = self.lmbda * distances.mean()
        if self.is_adapted:
            multipliers = distances.new_full((len(target),), self.lmbda)
            weighted = (adapted(multipliers, x_hat, self.distortion, target) * distances).mean()
        return {
            "bpp_loss": rate,
            "mse_loss": F.mse_loss(x_hat.detach(), target),
            "distortion_loss": distances.mean(),
            "loss": rate + weighted,
        }
