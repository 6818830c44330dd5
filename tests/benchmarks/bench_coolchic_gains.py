"""What lifted gains are worth: COOL-CHIC fitted with and without, several times each.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_coolchic_gains.py cool-chic-v2 \
        --multiplier 1e-4 [--pictures astronaut,coffee,rocket] [--seeds 2] [--size 128]

One candidate and 2,300 iterations on the middle of photographs of scikit-image, gains at least as
given after 800 of them (1 is as published, 16 ours). Prints JSON: ``D + lambda R`` of rounded
latents, in thousandths, by picture and gain, one number a seed; then by how many percent lifted is
above or below published, mean over pictures and seeds, and how far pairs lie apart.
"""

from __future__ import annotations

import argparse
import json
import statistics

import torch
from skimage import data as photographs
from torch import Tensor
from torchvision.transforms.functional import center_crop

from compressai_gen_plugins.overfitted import coolchic_fitting
from compressai_gen_plugins.overfitted.coolchic import VERSIONS
from compressai_gen_plugins.overfitted.coolchic_cost import loss_of
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage

PUBLISHED = 1.0
SCHEDULE = Schedule(
    ((1, 800),), (Stage(1000, 1), *(Stage(125, rate) for rate in (1 / 2, 1 / 5, 1 / 10, 1 / 20)))
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codec", choices=sorted(VERSIONS))
    parser.add_argument("--multiplier", type=float, required=True, help="lambda")
    parser.add_argument("--pictures", default="astronaut,coffee,rocket")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    costs: dict[str, dict[float, list[float]]] = {}
    for name in args.pictures.split(","):
        x = picture(name, args.size)
        costs[name] = {
            gain: [cost(x, args, gain, seed) for seed in range(args.seeds)]
            for gain in (PUBLISHED, coolchic_fitting.LEAST_GAIN)
        }
    ratios = [
        100 * (lifted / published - 1)
        for published_, lifted_ in (pair.values() for pair in costs.values())
        for published, lifted in zip(published_, lifted_, strict=True)
    ]
    result = {**vars(args), "costs": costs, "percent": statistics.mean(ratios)}
    result["pairs"] = [min(ratios), max(ratios)]
    print(json.dumps(result, indent=1))


def picture(name: str, size: int) -> Tensor:
    """The middle of a photograph, (1, 3, size, size) in [0, 1]."""
    pixels = torch.from_numpy(getattr(photographs, name)().copy()).permute(2, 0, 1)
    return center_crop(pixels, [size, size])[None].float() / 255


def cost(x: Tensor, args: argparse.Namespace, gain: float, seed: int) -> float:
    """Of one fit, before its networks are rounded, in thousandths."""
    ours, coolchic_fitting.LEAST_GAIN = coolchic_fitting.LEAST_GAIN, gain
    try:
        torch.manual_seed(seed)
        version, loss = VERSIONS[args.codec], loss_of("mse", x.device)
        fitting = coolchic_fitting.Fitting(x, version, [args.multiplier], SCHEDULE, loss, seed)
        fitting.warm_up()
        for stage in SCHEDULE.stages:
            fitting.train(stage)
        return round(1e3 * float(fitting.best_cost), 4)
    finally:
        coolchic_fitting.LEAST_GAIN = ours


if __name__ == "__main__":
    main()
