"""What a fit of COOL-CHIC begins with: gains, grids, and what lambda means for a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from compressai_gen.losses.loading import Loss
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX
from compressai_gen_plugins.overfitted.stack import Weights

LEAST_GAIN = 16.0
"""Of all grids, after a warm-up."""

LEAST_GROWTH = 1e-10
"""Of a mean square: below it, at 90 dB, float32 tells no difference."""


def lifted(weights: Weights, least: float) -> Weights:
    """Gains and grids with which latents of the finer grids move faster, from where they are.

    Their gains start low, so that what the coarser grids can hold is not put into them; but as
    published, where they stay low, a latent of the finest moves by Adam's learning rate an
    iteration, and detail at high rates takes longer than there are iterations.

    Args:
        weights: of several networks, by name, each (N, ...).
        least: gain that lower ones count as.
    """
    name = PREFIX + "log2_gains"
    gains = (2 ** weights[name].detach()).clamp(min=least)
    higher = gains.clamp(min=LEAST_GAIN)
    changed = {name: higher.log2()}
    for level, scale in enumerate((gains / higher).unbind(1)):
        grid = f"{PREFIX}grids.{level}"
        changed[grid] = weights[grid].detach() * scale[:, None, None, None, None]
    return changed


def without_latents(weights: Weights) -> Weights:
    """The same networks and gains, with empty grids.

    Detail that once is in a grid does not leave it any more. A fit at another rate of the same
    picture ends at 9 to 12 % more D + lambda R from those latents than from none; and after a
    warm-up, where detail may have come into the second finest grid, one ends better from none on
    some pictures and from what is there on others (see the README).
    """
    grids = PREFIX + "grids."
    return {
        name: torch.zeros_like(value) if name.startswith(grids) else value
        for name, value in weights.items()
    }


def exchange_rate(error: Tensor, loss: Loss, x: Tensor) -> float | None:
    """``dD / dMSE`` along a growth of the error; None where there is no error to grow.

    Args:
        error: of a picture that is drawn, shape (1, 3, H, W).
        loss: D.
        x: the picture, in [0, 1].
    """
    near, far = x + error, x + 1.05 * error
    growth = float((far - x).square().mean() - (near - x).square().mean())
    slope = float((loss(far, x) - loss(near, x)).mean())
    return slope / growth if growth > LEAST_GROWTH and slope > 0 else None
