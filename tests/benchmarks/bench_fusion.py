"""Time of latent fusion on a Kodak-sized picture against the bare sum of its D passes, in one run.

    python tests/benchmarks/bench_fusion.py [--width 256] [--channels 192] [--steps 10] [--runs 3]

`mbt2018-mean` and D have random weights. Prints JSON: seconds (median) of the parts, and ratios:
sampling and synthesis together over what D takes by itself, which is its condition branch once and
``steps`` passes (236 GMAC in our default size; bar 1.2), the same over the passes alone (no bar),
and a further tau in cached mode over the stock codec's synthesis.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable

import torch
from compressai.models import MeanScaleHyperprior

from compressai_gen.entropy import export
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.pipelines.latent_fusion import LatentFusionPipeline, default_scheduler, sample

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


def make_pipeline(channels: int, width: int, units: int) -> LatentFusionPipeline:
    """A pipeline with random weights, but none that make D the identity."""
    torch.manual_seed(0)
    model = MeanScaleHyperprior(N=128, M=channels).eval()
    model.update()
    model.add_module("portable", export(model))
    fusion = LatentFusionModel(channels, width, units).eval()
    torch.nn.init.normal_(fusion.conv_out.weight, std=0.01)
    codec = CompressionModelComponent.from_compressai(model)
    pipe = LatentFusionPipeline(codec, fusion, default_scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=192, help="C, of the latent")
    parser.add_argument("--width", type=int, default=256, help="W, of D")
    parser.add_argument("--units", type=int, default=4, help="M")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipe = make_pipeline(args.channels, args.width, args.units)
    fusion, steps = pipe.fusion, args.steps
    data = pipe.compress(torch.rand(3, HEIGHT, WIDTH))
    fused = pipe.fuse(data, num_inference_steps=1)
    condition = fusion.condition(fused.y_hat)

    def dial() -> object:
        y_tilde = sample(
            fusion, pipe.scheduler, fused.y_hat, seed=fused.decoded.seed, num_inference_steps=steps
        )
        return pipe.render(dataclasses.replace(fused, y_tilde=y_tilde), 0.0, "pt")

    times = {
        "pass of D": seconds(lambda: fusion(fused.y_hat, 0.5, condition), args.runs),
        "condition": seconds(lambda: fusion.condition(fused.y_hat), args.runs),
        "synthesis of the stock codec": seconds(
            lambda: pipe.codec.synthesize(fused.y_hat), args.runs
        ),
        "sampling and synthesis": seconds(dial, args.runs),
        "further tau": seconds(lambda: pipe.render(fused, 0.3, "pt"), args.runs),
        "fuse, decoding included": seconds(
            lambda: pipe.fuse(data, num_inference_steps=steps), args.runs
        ),
    }
    passes = steps * times["pass of D"]
    dialled = times["sampling and synthesis"]
    ratios = {
        "sampling and synthesis / D": dialled / (times["condition"] + passes),
        "sampling and synthesis / passes alone": dialled / passes,
        "further tau / synthesis": times["further tau"] / times["synthesis of the stock codec"],
    }
    parameters = sum(p.numel() for p in fusion.parameters())
    print(json.dumps({"parameters": parameters, "seconds": times, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
