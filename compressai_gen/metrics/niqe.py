"""NIQE: Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer",
IEEE Signal Processing Letters 20(3), 2013.

The luminance picture is normalised locally (MSCN), cut into patches, and each patch described by
18 parameters of generalised Gaussian fits at each of two scales. The score is the distance between
a Gaussian model of these 36-vectors and that of pristine photographs. The pristine model is looked
up (`niqe_pris_params.npz`: ``mu_pris_param [1, 36]``, ``cov_pris_param [36, 36]``); it ships with
BasicSR and reproduces the authors' own.

As in the authors' program, and where the paper is silent:
luminance is MATLAB's ``rgb2gray`` rounded to 8 bits (BasicSR's default is studio-range Y, which
gives other figures); every whole patch counts, since sharpness selects patches in training only;
neighbour products wrap around inside a patch; the second scale is MATLAB's anti-aliased bicubic;
a patch without variation has no fit and is left out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressai_gen.errors import CheckpointError, ImageError
from compressai_gen.metrics.base import Metric
from compressai_gen.metrics.weights import find_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

PATCH = 96
#: shifts (down, right) of the neighbour whose product with a pixel is modelled
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


class Niqe(Metric):
    """NIQE, lower is better; photographs score about 2 to 5. Needs two whole 96x96 patches."""

    name = "niqe"
    higher_is_better = False
    minimum_side = PATCH
    note = "own implementation: rgb2gray luminance, 96x96 patches, pristine model of the authors"

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__(weights)
        path = find_weights(self.name, ("niqe/niqe_pris_params.npz",), weights)
        try:
            with np.load(path, allow_pickle=False) as stored:
                self.mean = stored["mu_pris_param"].reshape(36)
                self.covariance = stored["cov_pris_param"].reshape(36, 36)
        except (KeyError, ValueError, OSError) as error:
            raise CheckpointError(f"{path} does not hold NIQE's pristine model: {error}") from error

    def measure(self, reference: Tensor, decoded: Tensor) -> float:
        rgb = np.rint(decoded[0].detach().double().cpu().numpy() * 255)
        features = picture_features(luminance(rgb))
        features = features[np.isfinite(features).all(axis=1)]
        if len(features) < 2:
            raise ImageError("niqe needs at least two 96x96 patches with some variation in them")
        difference = self.mean - features.mean(axis=0)
        pooled = (self.covariance + np.cov(features, rowvar=False)) / 2
        return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))  # eq. 10


def luminance(rgb: Array) -> Array:
    """``[3, H, W]`` in [0, 255] -> ``[H, W]`` in whole numbers."""
    return np.rint(np.tensordot([0.2989, 0.5870, 0.1140], rgb, axes=1))


def picture_features(picture: Array) -> Array:
    """``[H, W]`` in [0, 255] -> ``[patches, 36]``: 18 features a scale, NaN for a flat patch."""
    rows, columns = (side // PATCH for side in picture.shape)
    picture = picture[: rows * PATCH, : columns * PATCH]
    fine = patches(normalised(picture), PATCH)
    coarse = patches(normalised(halved(picture)), PATCH // 2)
    return np.concatenate([patch_features(fine), patch_features(coarse)], axis=1)


def normalised(picture: Array) -> Array:
    """Mean-subtracted, contrast-normalised coefficients (eqs. 1 to 3)."""
    mean = blurred(picture)
    deviation = np.sqrt(np.abs(blurred(picture**2) - mean**2))
    return (picture - mean) / (deviation + 1)


def blurred(picture: Array) -> Array:
    """A 7x7 circular Gaussian window of deviation 7/6, edges repeated."""
    from scipy.ndimage import correlate1d

    window = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
    window /= window.sum()
    rows = correlate1d(picture, window, axis=0, mode="nearest")
    return correlate1d(rows, window, axis=1, mode="nearest")


def halved(picture: Array) -> Array:
    """Half the size by the anti-aliased cubic kernel (a = -1/2), edges mirrored."""
    from scipy.ndimage import correlate1d

    x = np.abs(np.arange(-3.5, 4)) / 2  # distance of 8 input pixels, in output pixels
    taps = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    taps /= taps.sum()
    for axis in (0, 1):  # origin -1: taps reach from 3 before to 4 after an even pixel
        picture = correlate1d(picture, taps, axis=axis, mode="reflect", origin=-1)
    return picture[::2, ::2]


def patches(picture: Array, side: int) -> Array:
    """``[H, W]`` -> ``[patches, side, side]`` without overlap."""
    rows, columns = (length // side for length in picture.shape)
    grid = picture.reshape(rows, side, columns, side).swapaxes(1, 2)
    return grid.reshape(rows * columns, side, side)


def patch_features(patch: Array) -> Array:
    """``[patches, side, side]`` of coefficients -> ``[patches, 18]``."""
    from scipy.special import gamma

    shape, left, right = fit(patch)
    columns = [shape, (left + right) / 2]
    for shift in NEIGHBOURS:
        shape, left, right = fit(patch * np.roll(patch, shift, axis=(1, 2)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)  # eq. 8
        columns += [shape, mean, left, right]
    return np.stack(columns, axis=1)


def fit(samples: Array) -> tuple[Array, Array, Array]:
    """Asymmetric generalised Gaussian of each patch by moments (eqs. 4 to 7).

    Args:
        samples: ``[patches, side, side]``.

    Returns:
        shape alpha and the left and right scales beta, ``[patches]`` each; NaN for a patch that
        has no negative or no positive sample.
    """
    from scipy.special import gamma

    flat = samples.reshape(len(samples), -1)
    left, right = _one_sided(np.minimum(flat, 0)), _one_sided(np.maximum(flat, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = left / right
        ratio = np.abs(flat).mean(axis=1) ** 2 / (flat**2).mean(axis=1)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    alphas, ratios = _shape_table()
    alpha = np.interp(ratio, ratios, alphas)
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * scale, right * scale


def _one_sided(side: Array) -> Array:
    """Deviation of the non-zero samples of each row, NaN where there is none."""
    count = np.count_nonzero(side, axis=1)
    return np.sqrt((side**2).sum(axis=1) / np.where(count, count, np.nan))


@cache
def _shape_table() -> tuple[Array, Array]:
    """Shapes alpha and the moment ratio (E|x|)^2 / E[x^2] of each, both increasing."""
    from scipy.special import gamma

    alpha = np.arange(0.2, 10.001, 0.001)
    return alpha, gamma(2 / alpha) ** 2 / (gamma(1 / alpha) * gamma(3 / alpha))
