"""From the curves of a study to its tables and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import OptionError
from compressai_gen.metrics.bd import bd

if TYPE_CHECKING:
    from compressai_gen.evaluation.schema import Report

    Curves = Mapping[tuple[str, str], Report]
    """By codec and loss; a baseline has no loss."""

Table = list[dict[str, Any]]
NOTHING = "-"
"""In place of a BD-rate: the curves have no quality in common, or too few points."""


def tables(curves: Curves, metrics: Sequence[str]) -> dict[str, Table]:
    """``losses``: BD-rates of every loss against the first, by codec; ``codecs``: of all codecs,
    with the first loss, and of baselines against one another.
    """
    first = dict(reversed(list(curves)))
    losses = [
        {"codec": codec, "loss": loss, "against": first[codec]}
        | _rates(curves[codec, first[codec]], report, metrics)
        for (codec, loss), report in curves.items()
        if loss != first[codec]
    ]
    codecs = [
        {"codec": test, "loss": first[test], "against": anchor}
        | _rates(curves[anchor, first[anchor]], curves[test, first[test]], metrics)
        for anchor, test in combinations(dict.fromkeys(codec for codec, _ in curves), 2)
    ]
    return {name: rows for name, rows in (("losses", losses), ("codecs", codecs)) if rows}


def _rates(anchor: Report, test: Report, metrics: Sequence[str]) -> dict[str, str]:
    return {metric: _rate(anchor, test, metric) for metric in metrics}


def _rate(anchor: Report, test: Report, metric: str) -> str:
    try:
        rate = bd(anchor.curve(metric), test.curve(metric)).bd_rate
    except OptionError:
        rate = None
    return NOTHING if rate is None else f"{rate:+.1f}"


def draw(curves: Curves, metrics: Sequence[str]) -> bytes:
    """A PNG of the paper's Fig. 2: a row a metric, a column a codec, baselines in every panel."""
    from matplotlib.figure import Figure

    from compressai_gen.evaluation.plot import draw_curves, encoded

    codecs = list(dict.fromkeys(codec for codec, loss in curves if loss))
    size = 4.5 * len(codecs), 3.5 * len(metrics)
    drawing = Figure(figsize=size, layout="constrained")
    panels = drawing.subplots(len(metrics), len(codecs), squeeze=False, sharex="col")
    for column, codec in enumerate(codecs):
        shown = [
            replace(report, name=loss or name)
            for (name, loss), report in curves.items()
            if name == codec or not loss
        ]
        panels[0, column].set_title(codec)
        for row, metric in enumerate(metrics):
            draw_curves(panels[row, column], shown, metric)
        panels[0, column].legend(fontsize=8)
    return encoded(drawing)
