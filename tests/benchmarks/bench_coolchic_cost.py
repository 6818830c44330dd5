"""What our changes to COOL-CHIC's fit are worth: fits with and without one, several times each.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_coolchic_cost.py gains cool-chic-v2 \
        --multiplier 1e-4 [--pictures astronaut,coffee,rocket] [--seeds 2] [--size 128]

``gains`` leaves out that gains are lifted after the warm-up, ``networks`` that networks are trained
on as a file holds them. One candidate and 2,300 iterations on the middle of photographs of
scikit-image. Prints JSON: ``D + lambda R``, in thousandths, of the picture in range and of all bits
of a file's chunks, by picture, without and with, one number a seed; then by how many percent ours
is above or below, mean over pictures and seeds, and the lowest and highest of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
from unittest.mock import patch

import torch
from skimage import data as photographs
from torch import Tensor
from torchvision.transforms.functional import center_crop

from compressai_gen_plugins.overfitted import coolchic_fitting, coolchic_start
from compressai_gen_plugins.overfitted.coolchic_files import write
from compressai_gen_plugins.overfitted.coolchic_schedules import WRITTEN, Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_versions import VERSIONS

ROUNDS = (1000, 1), *((125, rate) for rate in (1 / 2, 1 / 5, 1 / 10, 1 / 20))
STAGES = tuple(Stage(iterations, rate) for iterations, rate in ROUNDS)
LATENTS = Stage(100, 1 / 5, "latents", rounded=True, fixed=True)


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("change", choices=("gains", "networks"))
    parser.add_argument("codec", choices=sorted(VERSIONS))
    parser.add_argument("--multiplier", type=float, required=True, help="lambda")
    parser.add_argument("--pictures", default="astronaut,coffee,rocket")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    costs: dict[str, list[list[float]]] = {}
    for name in args.pictures.split(","):
        x = picture(name, args.size)
        costs[name] = [
            [cost(x, args, ours, seed) for seed in range(args.seeds)] for ours in (False, True)
        ]
    percent = [
        100 * (with_ / without - 1)
        for pair in costs.values()
        for without, with_ in zip(*pair, strict=True)
    ]
    summary = {"mean": statistics.mean(percent), "lowest": min(percent), "highest": max(percent)}
    print(json.dumps({**vars(args), "costs": costs, "percent": summary}, indent=1))


def picture(name: str, size: int) -> Tensor:
    """The middle of a photograph, (1, 3, size, size) in [0, 1]."""
    pixels = torch.from_numpy(getattr(photographs, name)().copy()).permute(2, 0, 1)
    return center_crop(pixels, [size, size])[None].float() / 255


def cost(x: Tensor, args: argparse.Namespace, ours: bool, seed: int) -> float:
    """Of one fit, in thousandths."""
    left_out = None if ours else args.change
    trained = () if left_out == "networks" else WRITTEN
    schedule = Schedule(((1, 800),), (*STAGES, *trained, LATENTS))
    gain = 1.0 if left_out == "gains" else coolchic_start.LEAST_GAIN
    with patch.object(coolchic_start, "LEAST_GAIN", gain):
        ((network, steps),) = coolchic_fitting.fit(
            x, VERSIONS[args.codec], args.multiplier, schedule, seed=seed
        )
    with torch.no_grad():
        x_hat = network.picture(network.latents(torch.round)).clamp(0, 1)
    bits = 8 * sum(map(len, write(network, steps)[0]))
    error = float((x_hat - x).square().mean())
    return round(1e3 * (error + args.multiplier * bits / x[0, 0].numel()), 4)


if __name__ == "__main__":
    main()
