"""Draw result files of `cgen evaluate` or CompressAI: a metric over the rate, or over a metric."""

from __future__ import annotations

import argparse
from pathlib import Path

from compressai_gen.errors import OptionError

MAX_DPI = 1200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="F.json")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--metric", default="psnr-rgb", help="default: %(default)s")
    what.add_argument("--plane", metavar="A,B", help="metric B over metric A, rates at the points")
    parser.add_argument("--out", type=Path, default=Path("rd.png"), help="png, svg or pdf")
    parser.add_argument("--title", help="above the picture")
    parser.add_argument("--dpi", type=int, default=150, help="default: %(default)s")


def run(args: argparse.Namespace) -> None:
    from compressai_gen.bitstream.files import STDIO, check_writable, write_file
    from compressai_gen.evaluation.plot import RATE, draw, encoded
    from compressai_gen.evaluation.schema import read_reports

    against, metric = _plane(args.plane) if args.plane else (RATE, args.metric)
    if not 10 <= args.dpi <= MAX_DPI:
        raise OptionError(f"--dpi {args.dpi}: give 10 to {MAX_DPI} dots per inch")
    check_writable(args.out)
    figure = draw(read_reports(args.files), metric, against)
    if args.title:
        figure.suptitle(args.title)
    kind = args.out.suffix.lstrip(".") or "png"
    if kind not in ("png", "svg", "pdf"):
        raise OptionError(f"--out {args.out}: give a name that ends in .png, .svg or .pdf")
    write_file(args.out, encoded(figure, kind, args.dpi))
    if str(args.out) != STDIO:
        print(args.out)


def _plane(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names):
        raise OptionError(f"--plane {text}: give two metrics, such as psnr-rgb,lpips-squeeze")
    return names[0], names[1]
