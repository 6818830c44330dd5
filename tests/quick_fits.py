"""Short fits of COOL-CHIC to one small photograph, for tests."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from skimage import data as photographs

from compressai_gen_plugins.overfitted.coolchic_fitting import fit as fit_all
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage

QUICK = Schedule(
    ((2, 10), (1, 10)),
    (
        Stage(60, 1),
        Stage(20, 1 / 10, rounded=True),
        Stage(10, 1 / 5, "latents", rounded=True, fixed=True),
    ),
    trial=5,
)


def small_photo():
    """40x30, a face."""
    return Image.fromarray(photographs.astronaut()).crop((180, 40, 300, 130)).resize((40, 30))


def tensor_of(photo):
    return torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1).float() / 255


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def fit(x, *arguments, **options):
    """Of one picture (3, H, W)."""
    (fitted,) = fit_all(x[None], *arguments, **options)
    return fitted
