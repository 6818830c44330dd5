"""DiffEIC's own costs, each against the same networks without it, in one run; random weights.

    python tests/benchmarks/bench_diffeic.py --part codec|pipeline|memory [--runs 3]

``codec``: the released LFGCM on 768x512: encoding and decoding with the fixed-point entropy path,
over the same networks in float without coding (bar 2). ``pipeline``: sampling and VAE at Stable
Diffusion 2.1's geometry, over the bare sum of UNet, control and VAE passes (bar 1.05). ``memory``:
the most gigabytes that this pipeline needs to compress and to decompress 768x512 in half precision
(bar 6 on a GPU), as CUDA's allocator tells, or, with ``--device cpu``, as the tensors alive at once
add up, without what libraries set aside. Prints JSON, seconds are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.distributed._tools.mem_tracker import MemTracker

from compressai_gen.models.lfgcm import Lfgcm
from diffusers_codec import CompressionModelComponent
from diffusers_codec.models.autoencoders import decode
from diffusers_codec.models.diffeic_control import DiffEICControlModel
from diffusers_codec.models.injection import Injection
from diffusers_codec.pipelines.diffeic import DiffEICPipeline, default_scheduler, sample

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


def bench_codec(runs: int) -> dict[str, float]:
    """Coding against the float networks."""
    torch.manual_seed(0)
    model = Lfgcm().eval()
    model.export()
    x, guidance = torch.rand(1, 3, HEIGHT, WIDTH), torch.randn(1, 4, HEIGHT // 8, WIDTH // 8)
    coded = model.compress(x, guidance)
    y, z = model.analysis(x, guidance)

    def float_encode() -> object:
        y, z = model.analysis(x, guidance)
        return model.channel_groups(y, model.h_s(z.round()))

    def float_decode() -> object:
        y_hat, _, _ = model.channel_groups(y, model.h_s(z.round()))
        return model.synthesis(y_hat, z.round())

    times = {
        "encode": seconds(lambda: model.compress(x, guidance), runs),
        "encode, float networks": seconds(float_encode, runs),
        "decode": seconds(lambda: model.decompress(**coded), runs),
        "decode, float networks": seconds(float_decode, runs),
    }
    return {
        **times,
        "bits per pixel": 8 * len(coded["strings"][0][0]) / (HEIGHT * WIDTH),
        "encode ratio": times["encode"] / times["encode, float networks"],
        "decode ratio": times["decode"] / times["decode, float networks"],
    }


def stable_diffusion() -> tuple[UNet2DConditionModel, AutoencoderKL, DiffEICControlModel]:
    """UNet and VAE of Stable Diffusion 2.1's geometry and the released control module's."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20),
        use_linear_projection=True,
    ).eval()
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    ).eval()
    return unet, vae, DiffEICControlModel().eval()


def bench_pipeline(runs: int, steps: int) -> dict[str, float]:
    """Sampling against the bare passes."""
    unet, vae, control = stable_diffusion()
    z_c, prompt = torch.randn(1, 4, HEIGHT // 8, WIDTH // 8), control.prompt
    time_step = torch.tensor(500)

    def sampled() -> object:
        latents = sample(unet, control, default_scheduler(), z_c, seed=0, num_inference_steps=steps)
        return decode(vae, latents)

    additions = control(z_c, time_step, z_c, prompt)
    with Injection(unet) as injection:
        injection.set(additions)
        times = {"UNet pass": seconds(lambda: unet(z_c, time_step, prompt), runs)}
    times["control pass"] = seconds(lambda: control(z_c, time_step, z_c, prompt), runs)
    times["VAE"] = seconds(lambda: decode(vae, z_c), runs)
    times["sampling and VAE"] = seconds(sampled, runs)
    bare = steps * (times["UNet pass"] + times["control pass"]) + times["VAE"]
    return {**times, "ratio": times["sampling and VAE"] / bare}


def peak_memory(function: Callable[[], object], device: str, *parts: torch.nn.Module) -> float:
    """Gigabytes that a call needs at most, ``parts`` included."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() / 1e9
    tracker = MemTracker()
    tracker.track_external(*parts)
    with tracker:
        function()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"] / 1e9


def bench_memory(device: str, steps: int) -> dict[str, float]:
    """Compressing and decompressing a picture in half precision."""
    unet, vae, control = stable_diffusion()
    codec = Lfgcm().eval()
    codec.export()
    component = CompressionModelComponent.from_compressai(codec)
    pipe = DiffEICPipeline(vae, unet, control, component, default_scheduler())
    pipe.to(device, torch.bfloat16 if device == "cpu" else torch.float16)
    picture, parts = torch.rand(3, HEIGHT, WIDTH), (unet, vae, control, component)
    data = pipe.compress(picture)
    return {
        "weights": peak_memory(lambda: None, device, *parts),
        "compress": peak_memory(lambda: pipe.compress(picture), device, *parts),
        "decompress": peak_memory(
            lambda: pipe.decompress(data, num_inference_steps=steps), device, *parts
        ),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("codec", "pipeline", "memory"), required=True)
    parser.add_argument("--device", default="cuda", help="of memory alone; default: %(default)s")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {
        "codec": lambda: bench_codec(args.runs),
        "pipeline": lambda: bench_pipeline(args.runs, args.steps),
        "memory": lambda: bench_memory(args.device, args.steps),
    }[args.part]()
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
