"""The rate-distortion Lagrangian ``R + lambda * D`` over many rate points at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compressai_gen.losses.precision import single
from compressai_gen.losses.sizes import check_side

Distortion = Callable[[Tensor, Tensor], Tensor]


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Squared error on the 8-bit scale, shape (B,), of images (B, 3, H, W) in [0, 1]."""
    return 255**2 * F.mse_loss(*single(x_hat, x), reduction="none").mean((1, 2, 3))


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """``1 - MS-SSIM``, shape (B,), of images (B, 3, H, W) in [0, 1].

    Raises:
        ImageError: for images of less than 161 pixels a side: the coarsest of five scales must
            hold a window.
    """
    from pytorch_msssim import ms_ssim as similarity

    check_side(x, 161, "ms-ssim")
    x_hat, x = single(x_hat, x)
    with torch.autocast(x.device.type, enabled=False):
        value: Tensor = similarity(x_hat, x, data_range=1.0, size_average=False)
    return 1 - value


@dataclass(frozen=True)
class RateDistortion:
    """What one batch costs.

    Attributes:
        loss: scalar to minimise.
        bits_per_pixel: estimated rate, shape (B,).
        distortion: shape (B,), in the units of the distortion.
    """

    loss: Tensor
    bits_per_pixel: Tensor
    distortion: Tensor


def rate_distortion(
    output: Mapping[str, Tensor | Mapping[str, Tensor]],
    x: Tensor,
    multipliers: Tensor,
    weights: Tensor,
    distortion: Distortion,
) -> RateDistortion:
    """``mean over the batch of w * (R + lambda * D)``.

    Args:
        output: ``x_hat`` and ``likelihoods`` of a model's forward pass.
        x: the images, shape (B, 3, H, W) in [0, 1].
        multipliers: lambda of each image's rate point, shape (B,).
        weights: w of each image's rate point, shape (B,); see
            :func:`balanced_weights`.
        distortion: one of this module's distortions.
    """
    bits = bits_per_pixel(output["likelihoods"], x)  # type: ignore[arg-type]
    distances = distortion(output["x_hat"], x)  # type: ignore[arg-type]
    loss = (weights * (bits + multipliers * distances)).mean()
    return RateDistortion(loss, bits, distances)


def bits_per_pixel(likelihoods: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Cross entropy of the latents in bits per pixel of ``x`` (B, 3, H, W), shape (B,)."""
    pixels = x.size(2) * x.size(3)
    nats = [-p.log().flatten(1).sum(1) for p in likelihoods.values()]
    return torch.stack(nats).sum(0) / (math.log(2) * pixels)


def balanced_weights(multipliers: Tensor, exponent: float = 0.5) -> Tensor:
    """Loss weights ``lambda ** -exponent``, normalised to a mean of 1, shape (L,).

    With a high-rate distortion that falls as 1/lambda the loss of a rate point grows with its
    rate, and the high rates drown the low ones (users of gained autoencoders report a collapsed
    range). An exponent of 0 is the plain sum, 1 counts distortion equally at every rate.
    """
    weights = multipliers**-exponent
    return weights / weights.mean()
