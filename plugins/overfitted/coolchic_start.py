"""What a fit of COOL-CHIC begins with: gains and grids."""

from __future__ import annotations

import torch

from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX
from compressai_gen_plugins.overfitted.stack import Weights

LEAST_GAIN = 16.0
"""Of all grids, after a warm-up."""


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
