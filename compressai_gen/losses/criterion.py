"""A registered loss as a criterion of CompressAI's training scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compressai_gen.losses.loading import load_loss
from compressai_gen.losses.rate_distortion import bits_per_pixel


class PictureRateDistortionLoss(nn.Module):
    """``R + lmbda * D`` for any registered D, in CompressAI's registry of criterions.

    ``CRITERIONS["PictureRateDistortionLoss"](lmbda=0.01, loss="lc-ssim")`` takes the place of its
    ``RateDistortionLoss``.

    Args:
        lmbda: weight of the distortion.
        loss: name of a registered loss.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
    """

    def __init__(self, lmbda: float = 0.01, loss: str = "mse") -> None:
        super().__init__()
        self.lmbda, self.name = lmbda, loss
        self.distortion: Any = load_loss(loss)

    def forward(
        self, output: Mapping[str, Tensor | Mapping[str, Tensor]], target: Tensor
    ) -> dict[str, Tensor]:
        """``bpp_loss``, ``distortion_loss`` and ``loss``, scalars.

        Args:
            output: ``x_hat`` and ``likelihoods`` of a model's forward pass.
            target: images (B, 3, H, W) in [0, 1].
        """
        rate = bits_per_pixel(output["likelihoods"], target).mean()  # type: ignore[arg-type]
        distortion = self.distortion(output["x_hat"], target).mean()
        return {
            "bpp_loss": rate,
            "distortion_loss": distortion,
            "loss": rate + self.lmbda * distortion,
        }
