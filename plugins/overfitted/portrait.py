"""Where the bits of a COOL-CHIC file go, as a picture: ``cgen info --picture out.png FILE``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from compressai_gen_plugins.overfitted.coolchic import CoolChic, bits


def portrait(
    picture: Any, network: CoolChic, latents: Sequence[Tensor], chunks: Sequence[bytes]
) -> bytes:
    """A PNG: the picture, every grid and what its latents cost, and the bytes of every chunk.

    Args:
        picture: decoded, (H, W, 3).
        network: of the file.
        latents: integers, a grid each, (1, 1, h, w).
        chunks: of the file.
    """
    columns = 1 + len(latents)
    figure = Figure(figsize=(2.2 * columns, 6.5), layout="constrained")
    rows = figure.subplots(3, columns, squeeze=False)
    rows[0][0].imshow(picture)
    rows[0][0].set_title("picture")
    for number, grid in enumerate(latents):
        with torch.no_grad():
            cost = bits(grid, *network.arm(grid))[0, 0].numpy()
        values = grid[0, 0].numpy()
        reach = max(1.0, float(np.abs(values).max()))
        upper, lower = rows[0][number + 1], rows[1][number + 1]
        upper.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach)
        upper.set_title(f"grid 1/{2**number}\n{values.shape[1]}x{values.shape[0]}")
        shown = lower.imshow(cost, cmap="magma", vmin=0)
        lower.set_title(f"{cost.mean():.3f} bits a latent")
        figure.colorbar(shown, ax=lower, shrink=0.7)
    for axes in [*rows[0], *rows[1], *rows[2]]:
        axes.set_axis_off()
    _bars(figure, rows, chunks)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _bars(figure: Figure, rows: Any, chunks: Sequence[bytes]) -> None:
    """The lowest row as one plot: bytes of the networks and of every grid."""
    axes = figure.add_subplot(rows[2][0].get_gridspec()[2, :])
    names = ["networks", *(f"grid 1/{2**number}" for number in range(len(chunks) - 2))]
    sizes = [len(chunks[0]) + len(chunks[1]), *map(len, chunks[2:])]
    shown = axes.bar(names, sizes, color="tab:blue")
    axes.bar_label(shown, [f"{size:,} ({100 * size / sum(sizes):.0f} %)" for size in sizes])
    axes.set_ylabel("bytes")
    axes.margins(y=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
