"""Decoding a COOL-CHIC v2 file of 768x512 at about 0.5 bits per pixel, on one core and on two.

    python tests/benchmarks/bench_coolchic.py [--runs 5]

Latents are drawn from Laplace laws that widen from grid to grid, weights are random; ``latents`` is
the integer model with the range coder, grid after grid, ``whole file`` has the grids side by side,
the upsampling and the synthesis in it (bars: 0.25 s on one core, 1.5 s without numba). Prints JSON,
medians in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from compressai_gen.bitstream import Header, codec_fingerprint, pack
from compressai_gen_plugins.overfitted import arm_coding, coolchic_files, kernels
from compressai_gen_plugins.overfitted.codec import CoolChicV2Codec
from compressai_gen_plugins.overfitted.coolchic import CoolChic, grid_sizes
from compressai_gen_plugins.overfitted.coolchic_versions import V2
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, levels, put

HEIGHT, WIDTH = 512, 768


def seconds(function: Callable[[], object], runs: int) -> float:
    """Median wall-clock seconds of ``runs`` calls after one that is not counted."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def make_file() -> bytes:
    """A file that looks like a fitted one to the decoder."""
    torch.manual_seed(0)
    network, steps = CoolChic(V2, HEIGHT, WIDTH), Steps()
    for parameter in network.arm.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    network.arm.layers[2].bias[1] = 4.5  # what is expected of a latent: 0, give or take 0.1
    for conv in network.synthesis:
        torch.nn.init.normal_(conv.weight, std=0.1)
    put(network, levels(network, steps), steps)
    generator = np.random.default_rng(0)
    network.log2_gains.zero_()
    for grid, (height, width), number in zip(
        network.grids, grid_sizes(HEIGHT, WIDTH), range(9), strict=False
    ):
        scale = 0.03 * 1.7**number
        grid.copy_(torch.from_numpy(generator.laplace(0, scale, (1, 1, height, width)).round()))
    chunks, crc = coolchic_files.write(network, steps)
    header = Header(codec_fingerprint("cool-chic-v2"), bytes(2), HEIGHT, WIDTH, crc, quality=3)
    return pack(header, chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    data, codec = make_file(), CoolChicV2Codec()
    from compressai_gen.bitstream import unpack

    _, chunks = unpack(data)
    network, _, _ = coolchic_files.read(chunks, V2, HEIGHT, WIDTH)
    arm = arm_coding.integer_arm(network.arm)
    sizes = grid_sizes(HEIGHT, WIDTH)
    results = {"bits per pixel": 8 * len(data) / (HEIGHT * WIDTH)}
    cores = sorted(os.sched_getaffinity(0))
    for count in (1, 2):
        os.sched_setaffinity(0, cores[:count])
        torch.set_num_threads(count)

        def latents() -> None:
            for chunk, size in zip(chunks[2:], sizes, strict=True):
                arm_coding.decode(chunk, *size, arm)

        name = f"{count} core" + "s" * (count > 1)
        results[f"latents, {name}"] = seconds(latents, args.runs)
        results[f"whole file, {name}"] = seconds(lambda: codec.decompress(data), args.runs)
    os.sched_setaffinity(0, cores[:1])
    torch.set_num_threads(1)
    kernels.njit = None
    results["whole file, 1 core, without numba"] = seconds(lambda: codec.decompress(data), 1)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
