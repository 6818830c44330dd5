"""A photograph at several rates, as real files, beside JPEG at the same size. Needs no network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="your own photograph instead of the one at hand")
    parser.add_argument("--codec", help="default: as in compress")
    parser.add_argument("--checkpoint", help="folder or Hub repo id; default: the codec's own")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("cgen-demo"), help="folder; default: %(default)s"
    )


def run(args: argparse.Namespace) -> None:
    print("cgen: loading the codec, a few seconds ...", file=sys.stderr)
    from tqdm import tqdm

    from compressai_gen import demo
    from compressai_gen.codec import open_codec
    from compressai_gen.evaluation.protocol import load_rgb

    codec = open_codec(args.codec, checkpoint=args.checkpoint, device=args.device)
    photo = load_rgb(args.image) if args.image else demo.sample_photo()
    args.out.mkdir(parents=True, exist_ok=True)
    demo.write_picture(photo, args.out / "photo.png")
    qualities = tqdm(demo.rates_of(codec), unit="rate", leave=False, disable=None)
    rates = [demo.show(codec, photo, quality, args.out) for quality in qualities]
    sheet = args.out / "comparison.png"
    demo.write_picture(demo.side_by_side(photo, rates), sheet)
    print(f"{args.out / 'photo.png'}: {photo.width}x{photo.height} pixels\n")
    print(demo.table(photo, rates))
    print(_next_steps(sheet, rates[len(rates) // 2].file))
    low = rates[(len(rates) - 1) // 2].file  # less is in it, more is left to the dial
    turned = demo.turn(codec, photo, low)
    if turned:
        dial = args.out / "dial.png"
        demo.write_picture(demo.dial_sheet(photo, turned), dial)
        print(_dial_steps(dial, low))
        print(*(f"{each.file.name}: {demo.qualities(each)}" for each in turned), sep="\n")


def _next_steps(sheet: Path, file: Path) -> str:
    return f"""
Look at {sheet}: original, codec and JPEG at the same size, a row a rate.
The .cgen files are complete; try, with photographs of your own:
  cgen info {file}
  cgen decompress {file} again.png
  cgen compress PHOTO photo.cgen --bpp 0.3
  cgen evaluate FOLDER --quality 0,3,6,9 --baselines jpeg,webp --out results.json"""


def _dial_steps(sheet: Path, file: Path) -> str:
    return f"""
The same file also decodes to other balances of numbers and looks. Tau 1 is the codec's own picture,
tau 0 the farthest from it: look at {sheet}, and try
  cgen decompress {file} again.png --tau 0.3"""
