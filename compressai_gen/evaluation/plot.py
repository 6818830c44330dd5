"""Curves of result files: a metric over the rate, or one metric over another."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compressai_gen.evaluation.classic import CLASSIC
from compressai_gen.metrics.direction import higher_is_better, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from compressai_gen.evaluation.schema import Report

RATE = "bpp"
MARKERS = "osD^vP*X"


def draw(reports: Sequence[Report], metric: str, against: str = RATE) -> Figure:
    """A figure with one curve a result file.

    Args:
        reports: results; their names are the legend. Classic codecs are dashed.
        metric: on the vertical axis.
        against: on the horizontal axis, ``"bpp"`` or another metric; the points of such a
            distortion-perception plane carry their rates.

    Raises:
        OptionError: a result lacks one of the metrics.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    draw_curves(axes, reports, metric, against)
    axes.legend()
    return figure


def draw_curves(axes: Axes, reports: Sequence[Report], metric: str, against: str = RATE) -> None:
    """One curve a result file into a panel, without a legend; arguments as for `draw`."""
    for index, report in enumerate(reports):
        columns = [_column(report, name) for name in (RATE, against, metric)]
        rates, xs, ys = zip(*sorted(zip(*columns, strict=True)), strict=True)
        axes.plot(
            xs,
            ys,
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
            linewidth=1.2,
            linestyle="--" if report.model.get("codec", report.name) in [*CLASSIC] else "-",
            label=report.name,
        )
        if against != RATE:
            _write_rates(axes, xs, ys, rates)
            axes.margins(0.1)  # the rates stand beside the points
            axes.set_title("at the points: rate [bits per pixel]", fontsize=8, loc="right")
    axes.set_xlabel(label(against))
    axes.set_ylabel(label(metric))
    axes.grid(alpha=0.3)


def encoded(figure: Figure, kind: str = "png", dpi: int = 150) -> bytes:
    """The bytes of a file with a figure, ``"png"``, ``"svg"`` or ``"pdf"``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def _column(report: Report, name: str) -> list[float]:
    if name == RATE:
        return list(report.results[RATE])
    return list(report.curve(name).values)


def label(name: str) -> str:
    """Of an axis: a metric's name, its unit, and a word where lower is better."""
    if name == RATE:
        return "rate [bits per pixel]"
    arrow = "" if higher_is_better(name) else ", lower is better \N{DOWNWARDS ARROW}"
    return f"{name} [{unit(name)}]{arrow}" if unit(name) else f"{name}{arrow}"


def _write_rates(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], rates: Sequence[float]
) -> None:
    for x, y, rate in zip(xs, ys, rates, strict=True):
        axes.annotate(f"{rate:.2f}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
