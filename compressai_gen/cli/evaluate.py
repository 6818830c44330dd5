"""Compress every picture of a folder to a real file, decode it in another process, and measure.

Writes CompressAI's JSON (readable by `python -m compressai.utils.plot -f`, `cgen plot` and
`cgen bdrate`), one file for the codec and one for each baseline. An option of compress or
decompress may be a list, such as ``--tau 0,0.5,1``: one file each, ``F-tau0.json`` and so on. Run
the same command again to continue after an interruption.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressai_gen.cli.codec_options import add_codec_options
from compressai_gen.errors import OptionError
from compressai_gen.options import given_options

if TYPE_CHECKING:
    from compressai_gen.evaluation.codecs import Variant
    from compressai_gen.evaluation.schema import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from compressai_gen.evaluation.classic import CLASSIC
    from compressai_gen.evaluation.protocol import GEOMETRIES
    from compressai_gen.plugins import registry

    add = parser.add_argument
    add("folder", type=Path, help="pictures, looked for in sub-folders too")
    add("--out", type=Path, required=True, help="the result file, F.json")
    add("--codec", help="a registered codec or a baseline; default: as in compress")
    add("--checkpoint", help="folder or Hub repo id; default: the codec's own")
    add("--quality", default="", help="rate points, such as 0,2.5,5; default: the codec's own")
    add(
        "--metrics",
        default="psnr-rgb,ms-ssim-rgb",
        help=f"comma-separated from {', '.join(registry('metrics'))}; default: %(default)s",
    )
    add("--baselines", default="", help=f"comma-separated from {', '.join(CLASSIC)}")
    add(
        "--geometry",
        default="full",
        choices=tuple(GEOMETRIES),
        help="full, or shorter side to 768 and central 768x768 crop; default: %(default)s",
    )
    add("--limit", type=int, help="only the first so many pictures")
    add("--weights", type=Path, help="folder with the weights of metrics")
    add("--device", default="cpu", help="of codec and metrics; default: %(default)s")
    add("--dtype", help="of the codec's synthesis: float32, bfloat16 or float16")
    add("--json", action="store_true", help="print the results for programs")
    add_codec_options(parser, "decompress")
    add_codec_options(parser, "compress")


def run(args: argparse.Namespace) -> None:
    from compressai_gen.evaluation.codecs import CodecSpec
    from compressai_gen.evaluation.protocol import Dataset
    from compressai_gen.evaluation.run import Plan, make_sweeps
    from compressai_gen.evaluation.run import run as evaluate

    dataset = Dataset.collect(args.folder, args.geometry, args.limit)
    name = _codec_name(args.codec, args.checkpoint)
    codec = CodecSpec(name, args.checkpoint, args.device, args.dtype)
    qualities, baselines = _numbers(args.quality), _names(args.baselines)
    sweeps, absent = make_sweeps(codec, qualities, baselines, variants(given_options(args)))
    for name, reason in absent.items():
        _tell(f"baseline {name} skipped: {reason}")
    metrics = _names(args.metrics)
    reports = evaluate(Plan(dataset, sweeps, metrics, args.out, args.weights, args.device))
    _tell_skipped([*reports.values()])
    if args.json:
        print(json.dumps({str(path): dict(report.results) for path, report in reports.items()}))
    else:
        print("\n\n".join(_table(path, report) for path, report in reports.items()))


def _codec_name(codec: str | None, checkpoint: str | None) -> str:
    from compressai_gen.checkpoints import read_config
    from compressai_gen.codec import DEFAULT_CODEC

    if codec is None and checkpoint is not None:
        return read_config(checkpoint).architecture
    return codec or DEFAULT_CODEC


def _table(path: Path, report: Report) -> str:
    columns = sorted(report.results, key=lambda name: name != "quality")
    lines = [f"{report.name}: {path}", "  ".join(f"{name:>13}" for name in columns)]
    for row in zip(*(report.results[name] for name in columns), strict=True):
        lines.append("  ".join(f"{value:13.4f}" for value in row))
    return "\n".join(lines)


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> list[float]:
    try:
        return list(dict.fromkeys(float(part) for part in _names(text)))
    except ValueError:
        raise OptionError(f"--quality {text}: give numbers separated by commas") from None


def variants(given: Mapping[str, str]) -> list[Variant]:
    """Every combination of the values in comma-separated lists, named by what varies."""
    from compressai_gen.evaluation.codecs import Variant

    lists = [[(name, value) for value in _names(text)] for name, text in given.items()]
    varying, decoding = [name for (name, _), *others in lists if others], decoding_options()
    return [
        Variant(
            "-".join(f"{name}{value}" for name, value in options if name in varying),
            tuple(option for option in options if option[0] in decoding),
            tuple(option for option in options if option[0] not in decoding),
        )
        for options in itertools.product(*lists)
    ]


def decoding_options() -> set[str]:
    """Names of all options that `decompress` takes; the others are those of `compress` alone."""
    from compressai_gen.plugins import registry

    entries = [registry(kind).entry(n) for kind in ("codecs", "enhancers") for n in registry(kind)]
    options = [option for entry in entries for option in entry.details["options"]]
    return {option.name for option in options if "decompress" in option.verbs}


def _tell_skipped(reports: Sequence[Report]) -> None:
    """Each reason once, with the curves it holds for unless it holds for all."""
    skipped: dict[tuple[str, str], list[str]] = {}
    for report in reports:
        for metric_and_reason in report.skipped.items():
            skipped.setdefault(metric_and_reason, []).append(report.name)
    for (metric, reason), curves in skipped.items():
        where = "" if len(curves) == len(reports) else f" for {', '.join(curves)}"
        _tell(f"metric {metric} skipped{where}: {reason}")


def _tell(message: str) -> None:
    print(f"cgen: {message}", file=sys.stderr)
