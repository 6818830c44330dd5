"""What a square error is worth in a loss, so that lambda means for all losses what it does for mse.

At one lambda every loss has other rates: an error of 30 dB is 65 on the 8-bit scale of ``mse``, but
0.025 for L1 and 0.0005 for LogCosh, and beside those the rate is all that counts. So D is weighed
by how it grows with the error: ``lambda / (dD / dMSE)``, at what is drawn. The paper of these
losses (see `pictures`) leaves lambda alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressai_gen.losses.loading import Loss

OWN_MULTIPLIERS = ("mse", "ms-ssim")
"""Losses with published lambdas of their own, which are left alone."""

LEAST_GROWTH = 1e-10
"""Of a mean square: below it, at 90 dB, float32 tells no difference."""

LEAST_SHARE = 0.25
"""Of D / MSE, that dD / dMSE counts as at least: as for a root of the error. Of a growing blur some
networks tell less, or that D falls, and would weigh without bounds."""


def exchange_rate(error: Tensor, loss: Loss, x: Tensor) -> float | None:
    """``dD / dMSE`` along a growth of the error; None where there is no error to grow.

    Args:
        error: of a picture that is drawn, shape (1, 3, H, W).
        loss: D.
        x: the picture, in [0, 1].
    """
    distances, squares = along(error, loss, x)
    slope, growth = (float((far - near).mean()) for near, far in (distances, squares))
    return slope / growth if growth > LEAST_GROWTH and slope > 0 else None


@torch.no_grad()
def adapted(multipliers: Tensor, x_hat: Tensor, loss: Loss, x: Tensor) -> Tensor:
    """Lambda of each picture's D, shape (B,), at which D grows as ``lambda * mse`` would.

    Measured for each picture by itself, since its error is its own, and its rate point may be; and
    anew at every step: what is a mean over all pixels needs no smoothing, and a run has nothing to
    keep. No gradient goes through it.

    Args:
        multipliers: lambda of each picture for ``mse``, on the 8-bit scale, shape (B,).
        x_hat: what is drawn, shape (B, 3, H, W).
        loss: D.
        x: the pictures, in [0, 1].
    """
    with torch.autocast(x.device.type, enabled=False):
        distances, squares = along(x_hat.float() - x, loss, x)
    (near, far), (square, larger) = distances, 255**2 * squares
    rates = torch.maximum((far - near) / (larger - square), LEAST_SHARE * near / square)
    is_told = (larger - square > 255**2 * LEAST_GROWTH) & (rates > 0)
    return torch.where(is_told, multipliers / rates, multipliers)


def along(error: Tensor, loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    """D and the mean square, each (2, B), at an error (B, 3, H, W) and at one 5 % larger."""
    drawn = x + error, x + 1.05 * error
    squares = [(x_hat - x).square().mean((1, 2, 3)) for x_hat in drawn]
    return torch.stack([loss(x_hat, x) for x_hat in drawn]), torch.stack(squares)
