r"""NIF's files of whole pictures beside the means over Kodak that its authors publish.

    python tests/benchmarks/bench_nif_published.py kodak --published nif.json --device cuda \
        --state states [--files FOLDER] [--qualities 2,4,6] [--preset slow]

Fits networks to all pictures of a folder, those of one size together; by default the loss paper's,
0_31, 280 and 450, for as long as published. Each is written to a file and decoded from it. The
table is ``results/summaries/kodak/inr/nif.json`` of NIF's repository; between its points PCHIP over
the logarithm of the rate says what was published at our mean rate (bar: within 0.2 dB). Prints
JSON, with null for what was not published. Run it again with the same --state to go on after an
interruption.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from bench_coolchic_published import at_rate, file_of, measured, told
from torch import Tensor

from compressai_gen.evaluation.protocol import Dataset
from compressai_gen.images import to_tensor
from compressai_gen_plugins.overfitted import nif_files
from compressai_gen_plugins.overfitted.nif import Nif, sizes_at
from compressai_gen_plugins.overfitted.nif_fitting import fit
from compressai_gen_plugins.overfitted.nif_schedules import SCHEDULES


def published(path: Path) -> list[tuple[float, float]]:
    """Bits per pixel and dB of every network, means over Kodak."""
    results = json.loads(path.read_text())["results"]
    return list(zip(results["bpp"], results["psnr"], strict=True))


def fitted(pictures: dict[str, Tensor], quality: float, args: argparse.Namespace) -> Iterator[Nif]:
    """A network for every picture (3, H, W), in their order."""
    shapes, networks = dict.fromkeys(x.shape for x in pictures.values()), {}
    start = time.perf_counter()
    for shape in shapes:
        group = {name: x for name, x in pictures.items() if x.shape == shape}
        x, sizes = torch.stack([*group.values()]).to(args.device), sizes_at(quality)
        progress = told(start)
        fits = fit(x, sizes, SCHEDULES[args.preset], state=args.state, progress=progress)
        networks |= dict(zip(group, fits, strict=True))
    return (networks[name].cpu() for name in pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--qualities", default="2,4,6")
    parser.add_argument("--preset", default="slow")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--files", type=Path, help="folder for the files")
    args = parser.parse_args()
    dataset, theirs = Dataset.collect(args.folder), published(args.published)
    pictures = {name: to_tensor(dataset.load(name))[0] for name in dataset.names}
    results = []
    for quality in map(float, args.qualities.split(",")):
        each = {}
        for name, network in zip(pictures, fitted(pictures, quality, args), strict=True):
            data = file_of(nif_files.write(network), "nif", *pictures[name].shape[1:])
            if args.files is not None:
                args.files.mkdir(parents=True, exist_ok=True)
                (args.files / f"{Path(name).stem}-nif-{quality:g}.cgen").write_bytes(data)
            each[name] = measured(data, dataset.folder / name)
        bpp, psnr = (sum(column) / len(each) for column in zip(*each.values(), strict=True))
        there = at_rate(theirs, bpp)
        results.append(
            {
                "quality": quality,
                "bpp": round(bpp, 4),
                "psnr": round(psnr, 3),
                "published at that rate": None if math.isnan(there) else round(there, 3),
                "difference": None if math.isnan(there) else round(psnr - there, 3),
                "pictures": {n: [round(r, 4), round(p, 3)] for n, (r, p) in each.items()},
            }
        )
    print(json.dumps({"codec": "nif", "preset": args.preset, "results": results}, indent=2))


if __name__ == "__main__":
    main()
