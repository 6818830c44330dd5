r"""COOL-CHIC's files of whole pictures beside the tables that Cool-Chic's authors publish.

    python tests/benchmarks/bench_coolchic_published.py kodak/kodim05.png kodak/kodim13.png \
        --codec cool-chic-v2 --lambdas 0.004,0.0004 --published image-kodak.tsv \
        --device cuda --state states [--files FOLDER] [--preset fast]

All pictures, of one size, at all lambdas are fitted together. Each is written to a file and decoded
from it. The table is an ``image-kodak.tsv`` of Cool-Chic's repository; between its rows PCHIP over
the logarithm of the rate says what was published at our rate (bar: within 0.2 dB). Prints JSON. Run
it again with the same --state, on another device if need be, to go on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.interpolate import PchipInterpolator

from compressai_gen.bitstream import Header, codec_fingerprint, pack
from compressai_gen.codec import codec_for
from compressai_gen.images import to_tensor
from compressai_gen_plugins.overfitted import coolchic_files
from compressai_gen_plugins.overfitted.codec import NO_SYNTHESIS, CoolChicV1Codec, CoolChicV2Codec
from compressai_gen_plugins.overfitted.coolchic_fitting import fit
from compressai_gen_plugins.overfitted.coolchic_schedules import SCHEDULES
from compressai_gen_plugins.overfitted.fits import Progress

CODECS = {codec.name: codec for codec in (CoolChicV1Codec, CoolChicV2Codec)}
COLUMNS = ("seq_name", "seq"), ("lmbda", "lambda")
"""Of v2's table and, where they are other ones, v1's."""
Table = dict[float, tuple[float, float]]
"""Of a picture: lambda to bits per pixel and dB."""


def published(path: Path) -> dict[str, Table]:
    """The table by picture."""
    found: dict[str, Table] = {}
    with path.open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            point = float(row["rate_bpp"]), float(row["psnr_db"])
            name, multiplier = (row.get(key) or row[older] for key, older in COLUMNS)
            found.setdefault(name, {})[float(multiplier)] = point
    return found


def at_rate(points: Iterable[tuple[float, float]], bpp: float) -> float:
    """dB published at a rate, which must lie between those of the points, else NaN."""
    rates, qualities = zip(*sorted(points), strict=True)
    return float(PchipInterpolator(np.log(rates), qualities, extrapolate=False)(math.log(bpp)))


def file_of(written: tuple[list[bytes], int], codec: str, height: int, width: int) -> bytes:
    """Chunks and CRC32 of a fit as ``cgen compress`` writes them, but for the quality."""
    chunks, crc = written
    sizes = {"height": height, "width": width}
    header = Header(codec_fingerprint(codec), NO_SYNTHESIS, **sizes, symbols_crc=crc)
    return pack(header, chunks)


def measured(data: bytes, path: Path) -> tuple[float, float]:
    """Bits per pixel of a file, and dB of its picture beside the original."""
    original = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    drawn = np.asarray(codec_for(data).decompress(data), dtype=float)
    mse = np.square(drawn - original).mean()
    return 8 * len(data) / (original.size // 3), float(10 * np.log10(255**2 / mse))


def told(start: float) -> Progress:
    """Progress, a line each."""

    def tell(done: int, standing: str) -> None:
        print(f"{time.perf_counter() - start:.0f} s: {done}, {standing}", file=sys.stderr)

    return tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--codec", choices=CODECS, required=True)
    parser.add_argument("--lambdas", required=True)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--files", type=Path, help="folder for the files")
    args = parser.parse_args()
    lambdas = [float(value) for value in args.lambdas.split(",")]
    jobs = [(path, multiplier) for multiplier in lambdas for path in args.pictures]
    x = torch.stack([to_tensor(Image.open(path))[0] for path, _ in jobs]).to(args.device)
    start = time.perf_counter()
    fits = fit(
        x,
        CODECS[args.codec].model.version,
        [multiplier for _, multiplier in jobs],
        SCHEDULES[args.preset],
        state=args.state,
        progress=told(start),
    )
    results, tables = [], published(args.published)
    for (path, multiplier), (network, steps) in zip(jobs, fits, strict=True):
        written = coolchic_files.write(network.cpu(), steps)
        data = file_of(written, args.codec, *x.shape[2:])
        if args.files is not None:
            args.files.mkdir(parents=True, exist_ok=True)
            (args.files / f"{path.stem}-{args.codec}-{multiplier:g}.cgen").write_bytes(data)
        bpp, psnr = measured(data, path)
        theirs = tables[path.stem]
        there = at_rate(theirs.values(), bpp)
        results.append(
            {
                "picture": path.stem,
                "lambda": multiplier,
                "bpp": round(bpp, 4),
                "psnr": round(psnr, 3),
                "published at that rate": round(there, 3),
                "difference": round(psnr - there, 3),
                "cost": round(10 ** (-psnr / 10) + multiplier * bpp, 7),
                "published cost": round(cost_of(theirs, multiplier), 7),
            }
        )
    said = {"codec": args.codec, "preset": args.preset, "results": results}
    print(json.dumps(said, indent=2))


def cost_of(table: Table, multiplier: float) -> float:
    """D + lambda R of what was published for that lambda; NaN where nothing was."""
    bpp, psnr = table.get(multiplier, (math.nan, math.nan))
    return 10 ** (-psnr / 10) + multiplier * bpp


if __name__ == "__main__":
    main()
