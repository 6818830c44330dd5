"""What our changes to COOL-CHIC's fit are worth: fits with and without one, several times each.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_coolchic_cost.py gains cool-chic-v2 \
        --multiplier 1e-4 [--pictures astronaut,coffee,photo.png] [--seeds 2] [--size 128]

``gains`` leaves out that gains are lifted after the warm-up, ``networks`` that networks are trained
on as a file holds them, both of one candidate and 2,300 iterations; ``trial`` leaves out that the
warm-up's best candidate is tried with empty grids, too, ``rounding`` that latents are rounded
softly, both of a whole ``fast``. On the middle of photographs, names of scikit-image's or files.
Prints JSON: ``D + lambda R``, in thousandths, of the picture in range and of all bits of a file's
chunks, by picture, without and with, one number a seed; the same without the networks' bits; then
by how many percent ours is above or below, mean over pictures and seeds, and the lowest and highest
of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from PIL import Image
from skimage import data as photographs
from torch import Tensor
from torchvision.transforms.functional import center_crop

from compressai_gen.images import to_tensor
from compressai_gen_plugins.overfitted import coolchic_fitting, coolchic_start
from compressai_gen_plugins.overfitted.coolchic_files import write
from compressai_gen_plugins.overfitted.coolchic_schedules import (
    SCHEDULES,
    WRITTEN,
    Schedule,
    Stage,
)
from compressai_gen_plugins.overfitted.coolchic_versions import VERSIONS

CHANGES = ("gains", "networks", "trial", "rounding")
ROUNDS = (1000, 1), *((125, rate) for rate in (1 / 2, 1 / 5, 1 / 10, 1 / 20))
STAGES = tuple(Stage(iterations, rate) for iterations, rate in ROUNDS)
LATENTS = Stage(100, 1 / 5, "latents", rounded=True, fixed=True)


class Noisy(Schedule):
    """Uniform noise alone, as published."""

    def temperatures(self, number: int) -> None:
        """None, for any stage."""


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("change", choices=CHANGES)
    parser.add_argument("codec", choices=sorted(VERSIONS))
    parser.add_argument("--multiplier", type=float, required=True, help="lambda")
    parser.add_argument("--pictures", default="astronaut,coffee,rocket")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for name in args.pictures.split(","):
        x = picture(name, args.size)
        found[name] = [
            [costs(x, args, ours, seed) for seed in range(args.seeds)] for ours in (False, True)
        ]
        print(name, found[name], file=sys.stderr)
    kinds = {
        kind: {
            name: [[pair[number] for pair in row] for row in rows] for name, rows in found.items()
        }
        for number, kind in enumerate(("costs", "without_networks"))
    }
    percent = {kind: summary(values) for kind, values in kinds.items()}
    print(json.dumps({**vars(args), **kinds, "percent": percent}, indent=1))


def summary(values: dict[str, list[list[float]]]) -> dict[str, float]:
    """By how many percent ours is above or below."""
    percent = [
        100 * (with_ / without - 1)
        for rows in values.values()
        for without, with_ in zip(*rows, strict=True)
    ]
    return {"mean": statistics.mean(percent), "lowest": min(percent), "highest": max(percent)}


def picture(name: str, size: int) -> Tensor:
    """The middle of a photograph, (1, 3, size, size) in [0, 1]."""
    pixels = Image.open(name) if Path(name).is_file() else getattr(photographs, name)()
    return center_crop(to_tensor(pixels), [size, size])


def schedule(left_out: str | None, change: str) -> Schedule:
    """Of a fit."""
    fast = SCHEDULES["fast"]
    if change == "rounding":
        return fast if left_out is None else Noisy(fast.warmup, fast.stages, fast.trial)
    if change == "trial":
        if left_out is None:
            return fast
        first = replace(fast.stages[0], iterations=fast.stages[0].iterations + fast.trial)
        return Schedule(fast.warmup, (first, *fast.stages[1:]))
    trained = () if left_out == "networks" else WRITTEN
    return Schedule(((1, 800),), (*STAGES, *trained, LATENTS))


def costs(x: Tensor, args: argparse.Namespace, ours: bool, seed: int) -> tuple[float, float]:
    """Of one fit, in thousandths, with and without the networks' bits."""
    left_out = None if ours else args.change
    gain = 1.0 if left_out == "gains" else coolchic_start.LEAST_GAIN
    with patch.object(coolchic_start, "LEAST_GAIN", gain):
        ((network, steps),) = coolchic_fitting.fit(
            x, VERSIONS[args.codec], args.multiplier, schedule(left_out, args.change), seed=seed
        )
    with torch.no_grad():
        x_hat = network.picture(network.latents(torch.round)).clamp(0, 1)
    chunks = [8 * len(chunk) / x[0, 0].numel() for chunk in write(network, steps)[0]]
    error = float((x_hat - x).square().mean())
    all_, grids = (1e3 * (error + args.multiplier * sum(bits)) for bits in (chunks, chunks[2:]))
    return round(all_, 4), round(grids, 4)


if __name__ == "__main__":
    main()
