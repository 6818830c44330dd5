"""Bjontegaard deltas between two result files: how many bits TEST saves against ANCHOR.

Reads the files of `cgen evaluate` and CompressAI's own. With --min-bpp and --max-bpp both curves
are cut at these rates by interpolation before they are compared.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compressai_gen.evaluation.schema import Report
    from compressai_gen.metrics.bd import BdResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from compressai_gen.metrics.bd import METHODS

    parser.add_argument("anchor", type=Path, metavar="ANCHOR.json")
    parser.add_argument("test", type=Path, metavar="TEST.json")
    parser.add_argument("--metric", default="psnr-rgb", help="default: %(default)s")
    parser.add_argument("--min-bpp", type=float, default=0.0, help="lowest rate compared")
    parser.add_argument("--max-bpp", type=float, default=math.inf, help="highest rate compared")
    parser.add_argument(
        "--method", default=METHODS[0], choices=METHODS, help="default: %(default)s"
    )
    parser.add_argument(
        "--force", action="store_true", help="compare although the protocols differ"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> None:
    from compressai_gen.evaluation.schema import comparable, read_reports
    from compressai_gen.metrics.bd import bd

    anchor, test = read_reports([args.anchor, args.test])
    doubt = comparable(anchor, test, args.metric, force=args.force)
    if doubt:
        print(f"cgen: note: {doubt}", file=sys.stderr)
    result = bd(
        anchor.curve(args.metric),
        test.curve(args.metric),
        method=args.method,
        min_bpp=args.min_bpp,
        max_bpp=args.max_bpp,
    )
    if args.json:
        print(json.dumps(asdict(result) | {"metric": args.metric}))
    else:
        print(_text(result, anchor, test, args.metric))


def _text(result: BdResult, anchor: Report, test: Report, metric: str) -> str:
    from compressai_gen.metrics.direction import unit

    lines = [
        _rate(result.bd_rate, anchor.name, test.name, metric),
        _metric(result.bd_metric, unit(metric) or metric),
        f"overlap   {result.quality_overlap:.0%} of the quality range, "
        f"{result.rate_overlap:.0%} of the range of log rates "
        f"({result.method}, {result.points[0]} and {result.points[1]} points)",
    ]
    for name, rate, value in result.dropped:
        lines.append(
            f"left out  {name} at {rate:.4f} bpp ({value:.4f}), no better than a cheaper one"
        )
    return "\n".join(lines)


def _rate(percent: float | None, anchor: str, test: str, metric: str) -> str:
    if percent is None:
        return f"BD-rate   none: {test} and {anchor} have no {metric} in common"
    difference = "fewer bits than" if percent < 0 else "more bits than"
    if abs(percent) < 0.005:
        difference = "as many bits as"
    return f"BD-rate   {percent:+.2f} %   {test} needs {difference} {anchor} at equal {metric}"


def _metric(difference: float | None, unit: str) -> str:
    if difference is None:
        return "BD-metric none: no rate in common"
    return f"BD-metric {difference:+.4f} {unit}   at equal rate"
