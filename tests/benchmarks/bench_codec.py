"""Encode and decode times against CompressAI's serial ``cheng2020-anchor``, in one run.

    python tests/benchmarks/bench_codec.py [--width 128] [--threads 2] [--runs 3]

Both models have the same transforms with random weights; the latents are scaled so that both code
about half a bit a pixel. Ours verifies its own stream while encoding. Prints JSON: seconds (median)
and ratios stock / ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from compressai.models import Cheng2020Anchor

from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr

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


def spread_latents(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Scale the last convolution of g_a so that y has a standard deviation of 0.25."""
    with torch.no_grad():
        last = model.g_a[-1]
        last.weight.div_(model.g_a(x).std() / 0.25)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=128, help="channels N")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 32, 48), (HEIGHT, WIDTH), mode="bicubic")
    x = x.clamp(0, 1)

    stock, ours = Cheng2020Anchor(N=args.width).eval(), Cheng2020AnchorVbr(N=args.width).eval()
    for model in (stock, ours):
        spread_latents(model, x[..., :128, :128])
        model.update()
    stock_file = stock.compress(x)
    our_file = ours.compress(x, 4.5)
    bpp = 8 / (HEIGHT * WIDTH)
    result = {
        "bpp": {
            "stock": bpp * sum(len(s[0]) for s in stock_file["strings"]),
            "ours": bpp * len(our_file["strings"][0][0]),
        },
        "stock": {
            "encode": seconds(lambda: stock.compress(x), args.runs),
            "decode": seconds(lambda: stock.decompress(**stock_file), args.runs),
        },
        "ours": {
            "encode": seconds(lambda: ours.compress(x, 4.5), args.runs),
            "decode": seconds(lambda: ours.decompress(**our_file, quality=4.5), args.runs),
        },
    }
    ours.g_s.to(torch.bfloat16)
    result["ours"]["decode_bfloat16"] = seconds(
        lambda: ours.decompress(**our_file, quality=4.5), args.runs
    )
    result["ratio"] = {
        "encode": result["stock"]["encode"] / result["ours"]["encode"],
        "decode": result["stock"]["decode"] / result["ours"]["decode"],
        "decode_bfloat16": result["stock"]["decode"] / result["ours"]["decode_bfloat16"],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
