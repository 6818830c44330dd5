"""The figures of a study, in the style of `cgen plot`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from compressai_gen.evaluation.plot import MARKERS, label
from compressai_gen_plugins.latent_fusion.study_checks import STEP_COUNTS, sampled
from compressai_gen_plugins.latent_fusion.study_dials import Dial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

    from compressai_gen.codec.enhancers import DecodedLatents

CHANNELS = 4  # of the feature residual
ROW_NAMES = ("y_hat", "y_tilde - y_hat")


def steps_figure(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> Figure:
    """Fig. 9: each metric over the number of steps."""
    figure, panels = _panels(len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        _curves(axes, rows, "mode", "steps", metric)
        axes.set_xscale("log")
        axes.set_xticks(STEP_COUNTS, [str(steps) for steps in STEP_COUNTS])
        axes.minorticks_off()
        axes.set_xlabel("sampling steps")
    return figure


def tau_figure(rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> Figure:
    """Fig. 8 and 10: each metric over tau, and the second over the first."""
    figure, panels = _panels(len(metrics) + (len(metrics) == 2))
    for axes, metric in zip(panels, metrics, strict=False):
        _curves(axes, rows, "module", "tau", metric)
        axes.set_xlabel("tau")
    if len(metrics) == 2:
        _curves(panels[-1], rows, "module", *metrics)
        panels[-1].set_xlabel(label(metrics[0]))
    return figure


def seeds_figure(rows: Sequence[dict[str, Any]], spread: dict[str, dict[str, float]]) -> Figure:
    """Each metric over the seeds, with mean and standard deviation."""
    figure, panels = _panels(len(spread))
    for axes, (metric, found) in zip(panels, spread.items(), strict=True):
        mean, std = found["mean"], found["std"]
        axes.plot([row["seed"] for row in rows], [row[metric] for row in rows], "o", markersize=4)
        axes.axhline(mean, linewidth=1.2)
        axes.axhspan(mean - std, mean + std, alpha=0.15)
        axes.set_title(f"{mean:.5f} \N{PLUS-MINUS SIGN} {std:.5f}", fontsize=8, loc="right")
        axes.set_xlabel("seed")
        _dress(axes, metric)
    return figure


def residual_figure(photo: Image, dial: Dial, decoded: DecodedLatents) -> Figure:
    """Fig. 3 of the appendix: the original, y_hat and what D changes in it.

    The channels are those in which D changes most; each map is scaled to its own range.
    """
    y_hat = decoded.y_hat[0]
    residual = sampled(dial, decoded)[0] - y_hat
    chosen = strongest(residual, CHANNELS)
    figure = Figure(figsize=(2.6 * (1 + len(chosen)), 4.2), layout="constrained")
    grid = figure.subplots(2, 1 + len(chosen), squeeze=False)
    grid[0, 0].imshow(photo)
    grid[0, 0].set_title("original", fontsize=8)
    for row, (name, feature) in enumerate(zip(ROW_NAMES, (y_hat, residual), strict=True)):
        for column, channel in enumerate(chosen, start=1):
            grid[row, column].imshow(feature[channel].float().cpu(), cmap="gray")
            grid[row, column].set_title(f"{name}, channel {channel}", fontsize=8)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def strongest(feature: Tensor, count: int) -> list[int]:
    """The channels of a feature (C, h, w) with the most energy, the first the strongest."""
    energy = feature.float().square().sum((1, 2))
    found: list[int] = torch.topk(energy, min(count, len(energy))).indices.tolist()
    return found


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5 * count, 4), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _curves(axes: Axes, rows: Sequence[dict[str, Any]], series: str, x: str, y: str) -> None:
    """One line for each value of ``series``."""
    for index, name in enumerate(dict.fromkeys(row[series] for row in rows)):
        points = [(row[x], row[y]) for row in rows if row[series] == name]
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, label=name)
    axes.legend()
    _dress(axes, y)


def _dress(axes: Axes, metric: str) -> None:
    axes.set_ylabel(label(metric))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.3)
