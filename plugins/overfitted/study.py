"""The loss paper's study on your own pictures, with real files: architecture x loss x rate.

Writes a result file for every codec with every loss, and for the baselines, their files, tables of
BD-rates, and the paper's figures: PSNR, MS-SSIM and LPIPS over the rate, and a detail of a picture
from every codec. Run the same command again to continue after an interruption. What is finished is
only read: parts of the study (--codecs, --losses) can run side by side into one folder, and the
whole command then puts them together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressai_gen.errors import OptionError, UnknownNameError

if TYPE_CHECKING:
    from compressai_gen.evaluation.codecs import RatePoint
    from compressai_gen.evaluation.run import Plan
    from compressai_gen.evaluation.schema import Report

QUALITIES = {
    "nif": (2.0, 4.0, 6.0),  # the networks 0_31, 280 and 450
    "cool-chic-v1": (1.0, 2.0, 3.0, 4.0),
    "cool-chic-v2": (1.0, 2.0, 3.0, 4.0, 5.0),
}
"""The paper's."""
LOSSES = ("mse", "l1", "log-cosh", "lc-ssim", "l1-ssim")
BASELINES = ("jpeg", "avif")
METRICS = ("psnr-rgb", "ms-ssim-rgb", "lpips-squeeze")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``cgen loss-study``."""
    add = parser.add_argument
    add("pictures", type=Path, help="folder, looked through with its sub-folders")
    add("--out", type=Path, required=True, help="folder for results, tables, figures and files")
    add("--codecs", default=",".join(QUALITIES), help="default: %(default)s")
    add("--losses", default=",".join(LOSSES), help="the first is the anchor; default: %(default)s")
    add("--baselines", default=",".join(BASELINES), help="default: %(default)s")
    add(
        "--quality",
        action="append",
        default=[],
        metavar="CODEC=Q,Q",
        help="rate points of a codec; can be repeated; default: the paper's",
    )
    add("--preset", default="fast", help="draft, fast, medium or slow; default: %(default)s")
    add(
        "--same-lambda",
        action="store_true",
        help="COOL-CHIC's lambda left alone whatever the loss, as in the paper; rates then differ",
    )
    add("--state", type=Path, help="folder from which interrupted fits go on; you remove it")
    add("--limit", type=int, help="only the first so many pictures")
    add("--picture", metavar="NAME", help="whose details are drawn; default: the first")
    add("--weights", type=Path, help="folder with the weights of metrics")
    add("--device", default="cpu", help="of fits and metrics; default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Fit, measure, write and print.

    Raises:
        CodecError: whatever of the arguments cannot be used, before anything is fitted.
    """
    from compressai_gen.bitstream.files import write_file
    from compressai_gen.evaluation.tables import as_csv, as_text
    from compressai_gen_plugins.overfitted import study_details as details
    from compressai_gen_plugins.overfitted import study_results as results

    plans = make_plans(args)
    args.out.mkdir(parents=True, exist_ok=True)
    curves = {name: measure(plan) for name, plan in plans.items()}
    metrics = [name for name in METRICS if all(name in r.results for r in curves.values())]
    tables = results.tables(curves, metrics)
    for name, table in tables.items():
        write_file(args.out / f"{name}.csv", as_csv(table))
    write_file(args.out / "study.png", results.draw(curves, metrics))
    picture = args.picture or next(iter(plans.values())).dataset.names[0]
    if drawn := details.draw(plans, curves, picture):
        write_file(args.out / "details.png", drawn)
    print("\n\n".join(as_text(table) for table in tables.values()))
    print(f"\nBD-rates in percent, below zero: fewer bits. All else is in {args.out}")


def make_plans(args: argparse.Namespace) -> dict[tuple[str, str], Plan]:
    """What to measure by (codec, loss); a baseline has no loss.

    Raises:
        CodecError: an unknown codec, loss, baseline, preset or picture, a quality that there is
            not, or a loss without its weights.
    """
    from compressai_gen.evaluation.codecs import CodecSpec, Variant
    from compressai_gen.evaluation.protocol import Dataset
    from compressai_gen.evaluation.run import Plan, make_sweeps
    from compressai_gen.losses.loading import load_loss
    from compressai_gen.plugins import registry

    models, codecs, losses = registry("zoo_models"), _names(args.codecs), _names(args.losses)
    if not codecs or not losses:
        raise OptionError("--codecs and --losses: give at least one of each")
    for loss in losses:
        load_loss(loss)  # as a fit does
    qualities = {**QUALITIES, **parse_qualities(args.quality)}
    dataset = Dataset.collect(args.pictures, limit=args.limit)
    if args.picture is not None and args.picture not in dataset.names:
        raise UnknownNameError("picture", args.picture, dataset.names)

    def plan(name: str, sweeps: Mapping[str, Sequence[RatePoint]]) -> Plan:
        output, files = args.out / f"{name}.json", args.out / "files" / name
        return Plan(dataset, sweeps, METRICS, output, args.weights, args.device, files)

    plans = {}
    for codec in codecs:
        if codec not in QUALITIES:
            raise OptionError(f"--codecs {codec}: give some of {', '.join(QUALITIES)}")
        spec = CodecSpec(codec, device=args.device)
        for quality in qualities[codec]:
            models.load(codec)(quality, preset=args.preset)  # refuses what there is not
        for loss in losses:
            encoding = [("loss", loss), ("preset", args.preset)]
            if args.same_lambda and codec != "nif":
                encoding.append(("same_lambda", "true"))
            if args.state is not None:
                encoding.append(("state", str(args.state)))
            variant = Variant(encoding=tuple(encoding))
            sweeps, _ = make_sweeps(spec, qualities[codec], variants=[variant])
            plans[codec, loss] = plan(f"{codec}-{loss}", sweeps)
    first = CodecSpec(codecs[0], device=args.device)
    sweeps, absent = make_sweeps(first, qualities[first.name], _names(args.baselines))
    for name, reason in absent.items():
        print(f"cgen: baseline {name} skipped: {reason}", file=sys.stderr)
    for name in list(sweeps)[1:]:
        plans[name, ""] = plan(name, {name: sweeps[name]})
    return plans


def measure(plan: Plan) -> Report:
    """The result of one codec with one loss, measured now or before."""
    from compressai_gen.evaluation.run import finished
    from compressai_gen.evaluation.run import run as evaluate

    (report,) = (finished(plan) or evaluate(plan)).values()
    for metric, reason in report.skipped.items():
        print(f"cgen: metric {metric} skipped: {reason}", file=sys.stderr)
    return report


def parse_qualities(given: Sequence[str]) -> Mapping[str, tuple[float, ...]]:
    """``["nif=1,2"]`` to ``{"nif": (1.0, 2.0)}``.

    Raises:
        OptionError: not of this form, or not a codec of the study.
    """
    found = {}
    for text in given:
        codec, _, numbers = text.partition("=")
        try:
            found[codec] = tuple(float(number) for number in _names(numbers))
        except ValueError:
            found[codec] = ()
        if codec not in QUALITIES or not found[codec]:
            raise OptionError(f"--quality {text}: give it as in cool-chic-v2=1,2.5,4")
    return found


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
