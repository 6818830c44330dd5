"""From what was measured to tables, verdicts and files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from compressai_gen_plugins.latent_fusion.study_checks import Measured

CHECKS = {"steps": ("mode", "steps"), "tau": ("module", "tau"), "seeds": ("seed",)}
"""The settings that vary in a check: the columns of its table."""

COARSE = (0.0, 0.3, 0.5, 0.8, 1.0)  # Fig. 8


def table(rows: Iterable[Measured], check: str) -> list[dict[str, Any]]:
    """Means over the pictures, one row a setting of ``check``."""
    groups: dict[tuple[Any, ...], list[Measured]] = {}
    for row in rows:
        if row.check == check:
            setting = tuple(getattr(row, name) for name in CHECKS[check])
            groups.setdefault(setting, []).append(row)
    return [
        dict(zip(CHECKS[check], setting, strict=True))
        | {name: fmean(row.values[name] for row in group) for name in group[0].values}
        for setting, group in groups.items()
    ]


def spread(seeds: Sequence[dict[str, Any]], metrics: Iterable[str]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each metric over the runs of the table of seeds."""
    columns = {name: [row[name] for row in seeds] for name in metrics}
    return {name: {"mean": fmean(v), "std": stdev(v)} for name, v in columns.items()}


def verdicts(rows: Sequence[Measured], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Whether each metric is monotone in tau, for every fusion module.

    Returns:
        module -> metric -> the `trend` of the means over all tau, that over the five of the paper's
        Fig. 8, and in how many pictures the latter is the same.
    """
    own = [row for row in rows if row.check == "tau"]
    return {
        module: {name: _verdict([r for r in own if r.module == module], name) for name in metrics}
        for module in dict.fromkeys(row.module for row in own)
    }


def _verdict(rows: Sequence[Measured], metric: str) -> dict[str, Any]:
    curve = {row["tau"]: row[metric] for row in table(rows, "tau")}
    pictures = list(dict.fromkeys(row.picture for row in rows))
    coarse = trend([curve[tau] for tau in COARSE])
    few = [row for row in rows if row.tau in COARSE]
    singles = [[r.values[metric] for r in few if r.picture == name] for name in pictures]
    return {
        "trend": trend(list(curve.values())),
        "trend over five": coarse,
        "pictures alike": sum(trend(values) == coarse for values in singles),
        "pictures": len(pictures),
    }


def trend(values: Sequence[float]) -> str:
    """ "rises", "falls" or "constant" if the values are monotone, else "not monotone"."""
    if len(set(values)) == 1:
        return "constant"
    if all(a <= b for a, b in pairwise(values)):
        return "rises"
    if all(a >= b for a, b in pairwise(values)):
        return "falls"
    return "not monotone"


def sentences(
    spread: dict[str, dict[str, float]], verdicts: dict[str, dict[str, Any]]
) -> list[str]:
    """Spread and verdicts in words."""
    lines = [
        f"{name} over the seeds: {found['mean']:.5f} +- {found['std']:.5f}"
        for name, found in spread.items()
    ]
    for module, metrics in verdicts.items():
        lines += [
            f"{module}, {name} from tau 0 to 1 in steps of 0.1: {found['trend']}; over "
            f"0, 0.3, 0.5, 0.8, 1: {found['trend over five']}, as in {found['pictures alike']} of "
            f"{found['pictures']} pictures"
            for name, found in metrics.items()
        ]
    return lines
