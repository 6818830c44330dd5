"""The losses of overfitted codecs: pointwise ones, and with structure.

Catania and Allegra, "Redefining Visual Quality: The Impact of Loss Functions on INR-Based Image
Compression", ICIP 2024. Each is ``f(x_hat, x)``, shape (B,), of images (B, 3, H, W) in [0, 1], a
mean over all numbers, in float32. ``data_scale`` multiplies the error first: 1 is COOL-CHIC's
range, 2 NIF's (images in [-1, 1]), 255 the 8-bit one. It decides what a loss with a bend does: on
[0, 1] LogCosh is half the squared error (errors are small), on the 8-bit scale nearly L1.

The paper prints two of them wrongly. Its "MSE" (equation 5) has a square root, which its text and
code do not: that one is `rmse` here. Its LogCosh (equation 6), ``e + softplus(2e) - ln 2``, falls
without bound for negative e: the sign in the softplus is missing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from compressai_gen.losses.precision import single

WINDOW = 11
"""Side of SSIM's Gaussian window, pixels."""

BEND = 10.0
"""Error beyond which LogCosh is computed in its asymptotic form."""

LC_SSIM_ALPHA = 0.01
L1_SSIM_ALPHA = 0.2


def l1(x_hat: Tensor, x: Tensor, data_scale: float = 1.0) -> Tensor:
    """Mean absolute error, equation 4."""
    return mean(scaled_error(x_hat, x, data_scale).abs())


def squared(x_hat: Tensor, x: Tensor, data_scale: float = 1.0) -> Tensor:
    """Mean squared error, what the paper calls MSE; ``mse`` of the registry is the 8-bit one."""
    return mean(scaled_error(x_hat, x, data_scale).square())


def rmse(x_hat: Tensor, x: Tensor, data_scale: float = 1.0) -> Tensor:
    """Root of the mean squared error, equation 5 as printed.

    1e-12 under the root bounds the gradient where the pictures are equal.
    """
    return (squared(x_hat, x, data_scale) + 1e-12).sqrt()


def log_cosh(x_hat: Tensor, x: Tensor, data_scale: float = 1.0) -> Tensor:
    """Mean of ``ln cosh e``: equation 6, put right.

    ``log1p(2 sinh^2(e/2))``, which is exact to rounding where e is small (the form with the
    softplus cancels there), and ``|e| + softplus(-2|e|) - ln 2`` for large e.
    """
    error = scaled_error(x_hat, x, data_scale)
    small = torch.log1p(2 * (error.clamp(-BEND, BEND) / 2).sinh().square())
    size = error.abs()
    large = size + F.softplus(-2 * size) - math.log(2)
    return mean(torch.where(size < BEND, small, large))


def lc_ssim(
    x_hat: Tensor, x: Tensor, data_scale: float = 1.0, alpha: float = LC_SSIM_ALPHA
) -> Tensor:
    """``LogCosh + alpha (1 - SSIM)``, equation 8."""
    return log_cosh(x_hat, x, data_scale) + alpha * (1 - ssim(x_hat, x))


def l1_ssim(
    x_hat: Tensor, x: Tensor, data_scale: float = 1.0, alpha: float = L1_SSIM_ALPHA
) -> Tensor:
    """``(1 - alpha) L1 + alpha (1 - SSIM)``, equation 9."""
    return (1 - alpha) * l1(x_hat, x, data_scale) + alpha * (1 - ssim(x_hat, x))


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Structural similarity, 1 for equal pictures, mean over the channels, of any size."""
    from pytorch_msssim import ssim as similarity

    x_hat, x = single(at_least_a_window(x_hat), at_least_a_window(x))
    with torch.autocast(x.device.type, enabled=False):
        value: Tensor = similarity(x_hat, x, data_range=1.0, size_average=False)
    return value


def at_least_a_window(x: Tensor) -> Tensor:
    """Pictures smaller than SSIM's window with their edges repeated all around.

    The window weighs what it covers and must be full: of less the package leaves its blur out, and
    every local variance is zero. Repeated edges bring in no structure of their own; both pictures
    get them, so that equal ones stay equal, and of one pixel the similarity of its light is left.
    """
    rows, columns = (max(0, WINDOW - side) for side in x.shape[-2:])
    around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(x, around, mode="replicate") if any(around) else x


def scaled_error(x_hat: Tensor, x: Tensor, data_scale: float) -> Tensor:
    """Of every number, (B, 3, H, W)."""
    x_hat, x = single(x_hat, x)
    return (x_hat - x) * data_scale


def mean(values: Tensor) -> Tensor:
    """Over all numbers of each picture, (B, 3, H, W) to (B,)."""
    return values.mean((1, 2, 3))
