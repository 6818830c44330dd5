"""Time of the fixed-point entropy path against the float32 one; prints JSON.

    python tests/benchmarks/bench_entropy.py [--N 128] [--height 512] [--width 768] [--threads 2]

``networks``: hyper-synthesis, context and entropy parameters of both passes and the indexes,
without range coding. Float is what CompressAI's CheckerboardLatentCodec does: the context
convolution on the whole latent in both passes, the pointwise network on half of it.
``decode``: the same with range coding (ours: also the check that the stream is canonical).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from compressai.models.sensetime import Cheng2020AnchorCheckerboard

sys.path.insert(0, str(Path(__file__).parents[1]))
from calibrated import calibrate, random_latents

from compressai_gen.entropy import export
from compressai_gen.models.latents import entropy_networks


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """Best of ``repeats`` after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 1)


class Known:
    """Symbols that are known already: leaves the networks of the fixed-point path."""

    def __init__(self, y: torch.Tensor, z: torch.Tensor) -> None:
        self.y, self.z = y[0].flatten(1).double(), z[0].flatten(1).double()

    def symbols(self, part: Any, indexes: Any, tables: Any, means: Any) -> torch.Tensor:
        latent = self.z if part is None else self.y[part.channels][:, part.positions]
        return latent.round()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--N", type=int, default=128)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = calibrate(Cheng2020AnchorCheckerboard(args.N).eval())
    networks, portable = entropy_networks(model), export(model)
    shape = (args.height // 64, args.width // 64)
    z, y = random_latents(networks, *shape)
    codec, hyper = model.latent_codec["y"], model.latent_codec["hyper"]

    def float_networks() -> None:
        side = codec.unembed(hyper.h_s(z.round()))
        y_halves = codec.unembed(y.round())
        for i in range(2):
            decoded = y_halves if i else torch.zeros_like(y_halves)
            context = codec.unembed(codec.context_prediction(codec.embed(decoded)))[i]
            params = codec.entropy_parameters(codec.merge(context * i, side[i]))
            networks.gaussian_conditional.build_indexes(params.chunk(2, 1)[0])

    with torch.inference_mode():
        coded = model.latent_codec.compress(y)
        (ours,) = portable.encode(y, hyper.h_a(y))
        result = {
            "N": args.N,
            "size": [args.height, args.width],
            "threads": args.threads,
            "networks_float_ms": milliseconds(float_networks, args.repeats),
            "networks_fixed_ms": milliseconds(
                lambda: portable.walk(Known(y, z), shape, None), args.repeats
            ),
            "decode_float_ms": milliseconds(
                lambda: model.latent_codec.decompress(coded["strings"], coded["shape"]),
                args.repeats,
            ),
            "decode_fixed_ms": milliseconds(
                lambda: portable.decode([ours.string], shape), args.repeats
            ),
        }
    for what in ("networks", "decode"):
        result[f"{what}_ratio"] = round(result[f"{what}_fixed_ms"] / result[f"{what}_float_ms"], 2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
