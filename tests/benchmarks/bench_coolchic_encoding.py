r"""Fitting COOL-CHIC to a picture of 768x512: a step of ours beside a straightforward one.

    python tests/benchmarks/bench_coolchic_encoding.py [--threads 2] [--runs 5] [--steps 4] \
        [--device cuda --pictures 8]

``straightforward`` is the same model written as the public encoder is: every latent's neighbours as
a row, (latents, C), through linear layers; torch's own modules for the upsampling, one level after
the other, and for the synthesis; Adam as it comes. Both start from the same weights and latents,
for which their losses are compared first, and have the same loss, noise, limit of the gradient and
learning rate. Steps are timed in turns, ours and theirs. Prints JSON, medians in iterations a
second, and the median of the ratios (bars: 1.6 times as many for v1, 1.2 times for v2); with
several pictures how many times as many a second are fitted together (bar, on a GPU: 3).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen_plugins.overfitted.coolchic import TAIL, CoolChic
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX, loss_of
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_training import PEAK
from compressai_gen_plugins.overfitted.coolchic_versions import VERSIONS, Layer, offsets
from compressai_gen_plugins.overfitted.rounding import quantised

HEIGHT, WIDTH = 512, 768
MULTIPLIER = 1e-3
TEMPERATURE = 0.2


class PlainArm(nn.Module):
    """Rows of neighbours (N, C) to mean and scale of their latents, (N, 2)."""

    def __init__(self, arm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*layer.weight.shape[::-1]) for layer in arm.layers)
        self.load_state_dict(arm.state_dict())
        radius = arm.radius
        self.side = 2 * radius + 1
        places = [(i + radius) * self.side + j + radius for i, j in offsets(radius)]
        self.register_buffer("places", torch.tensor(places))

    def neighbours(self, grid: Tensor) -> Tensor:
        """Of every latent of (1, 1, h, w), (h * w, C)."""
        padded = F.pad(grid, (self.side // 2,) * 4)
        windows = padded.unfold(2, self.side, 1).unfold(3, self.side, 1)
        return windows.reshape(-1, self.side**2).index_select(1, self.places)

    def forward(self, latents: list[Tensor]) -> Tensor:
        """Bits of all latents, a scalar."""
        x = torch.cat([self.neighbours(grid) for grid in latents])
        for layer in self.layers[:-1]:
            x = F.relu(layer(x) + x)
        mu, sharpness = self.layers[-1](x).unbind(1)
        scale = torch.exp(-0.5 * sharpness.clamp(-10, 13.8155))
        y = torch.cat([grid.view(-1) for grid in latents])
        law = torch.distributions.Laplace(mu, scale, validate_args=False)
        laplace = law.cdf(y + 0.5) - law.cdf(y - 0.5)
        tail = TAIL / (1 + (y - mu).square())
        return -((1 - math.pi * TAIL) * laplace + tail).log2().sum()


class PlainConvolution(nn.Module):
    """A layer of the synthesis."""

    def __init__(self, conv: nn.Conv2d, layer: Layer) -> None:
        super().__init__()
        kernel = layer.kernel
        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            kernel,
            padding=kernel // 2,
            padding_mode="replicate",
        )
        self.conv.load_state_dict(conv.state_dict())
        self.residual = layer.residual
        self.relu = nn.ReLU() if layer.relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x) + x if self.residual else self.conv(x))


class Plain(nn.Module):
    """A copy of our network, written straightforwardly."""

    def __init__(self, network: CoolChic) -> None:
        super().__init__()
        self.least_gain = network.version.least_gain
        self.grids = nn.ParameterList(grid.detach().clone() for grid in network.grids)
        self.log2_gains = nn.Parameter(network.log2_gains.detach().clone())
        self.arm = PlainArm(network.arm)
        pairs = zip(network.synthesis, network.version.layers, strict=True)
        self.synthesis = nn.Sequential(*(PlainConvolution(*pair) for pair in pairs))
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bicubic", align_corners=False)
        if network.kernel is not None:
            self.up = nn.ConvTranspose2d(1, 1, 8, stride=2, bias=False)
            self.up.load_state_dict({"weight": network.kernel.detach()})

    def enlarged(self, x: Tensor) -> Tensor:
        """(1, C, h, w) twice as large."""
        if isinstance(self.up, nn.Upsample):
            return self.up(x)
        larger = self.up(F.pad(x.transpose(0, 1), (4,) * 4, mode="replicate"))
        return larger[:, :, 11:-11, 11:-11].transpose(0, 1)

    def forward(self, quantise: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """x_hat (1, 3, H, W) and the bits of all latents."""
        gains = (2**self.log2_gains).clamp(min=self.least_gain)
        latents = [quantise(grid * gain) for grid, gain in zip(self.grids, gains, strict=True)]
        x = latents[-1]
        for finer in reversed(latents[:-1]):
            larger = self.enlarged(x)[:, :, : finer.shape[2], : finer.shape[3]]
            x = torch.cat([finer, larger], dim=1)
        return self.synthesis(x), self.arm(latents)


def started(name: str, device: str, pictures: int = 1) -> Fitting:
    """Fits of a smooth picture, with latents and weights as in the middle of one."""
    torch.manual_seed(0)
    picture = F.interpolate(torch.rand(1, 3, 32, 48), (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    x, empty = picture.repeat(pictures, 1, 1, 1).to(device), Schedule(((1, 0),), ())
    judge = loss_of("mse", x.device)
    fitting = Fitting(x, VERSIONS[name], [MULTIPLIER] * pictures, empty, judge)
    for parameter, value in fitting.stack.weights.items():
        spread = {"grids": 0.5, "arm": 0.05, "synthesis": 0.05}
        first = parameter.removeprefix(PREFIX).split(".")[0]
        value.add_(spread.get(first, 0.0) * torch.randn(value.shape).to(value))
    return fitting


def plain_step(plain: Plain, fitting: Fitting) -> Callable[[], None]:
    """One iteration of the straightforward encoder."""
    parameters, version = list(plain.parameters()), fitting.version
    optimizer = torch.optim.Adam(parameters, PEAK)

    def trained(y: Tensor) -> Tensor:
        y_hat = quantised(y, torch.rand(y.shape, device=y.device), TEMPERATURE)
        return y_hat.detach() + version.noise_slope * (y_hat - y_hat.detach())

    def step() -> None:
        optimizer.zero_grad()
        cost(plain, fitting, trained)[0].backward()
        nn.utils.clip_grad_norm_(parameters, version.clip)
        optimizer.step()

    return step


def cost(plain: Plain, fitting: Fitting, quantise: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Of the straightforward model: its cost, distortion and rate."""
    x_hat, bits = plain(quantise)
    distortion, rate = (x_hat - fitting.x).square().mean(), bits / (HEIGHT * WIDTH)
    return [distortion + MULTIPLIER * rate, distortion, rate]


def our_step(fitting: Fitting) -> Callable[[], None]:
    """One iteration of ours."""
    stage = Stage(1, 1)
    parameters = fitting.stack.trained(fitting.cost.names(stage.part))
    optimizer = torch.optim.Adam(parameters, PEAK, fused=True)
    return lambda: fitting.step(optimizer, stage, TEMPERATURE)


@torch.no_grad()
def difference(fitting: Fitting, plain: Plain) -> float:
    """The largest of the relative differences of cost, distortion and rate, for rounded latents.

    Raises:
        SystemExit: if it is more than rounding.
    """
    ours = fitting.stack.evaluate((*fitting.inputs(), []))
    theirs = cost(plain, fitting, torch.round)
    apart = max(float((a - b).abs() / b) for a, b in zip(ours, theirs, strict=True))
    if apart > 1e-5:
        raise SystemExit(f"{fitting.version.name}: {ours} here, {theirs} there")
    return apart


def seconds(step: Callable[[], None], steps: int) -> float:
    """Wall-clock seconds of a step."""
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - start) / steps


def wait() -> None:
    """Until the device has done what it was told to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Both encoders of a version in turns, and several pictures of ours."""
    fitting = started(name, args.device)
    plain = Plain(fitting.network(0)).to(args.device)
    result: dict[str, Any] = {"difference": difference(fitting, plain)}
    steps = {"ours": our_step(fitting), "straightforward": plain_step(plain, fitting)}
    if args.pictures > 1:
        steps["together"] = our_step(started(name, args.device, args.pictures))
    times: dict[str, list[float]] = {who: [] for who in steps}
    for step in steps.values():
        step()
    for _ in range(args.runs):
        for who, step in steps.items():
            times[who].append(seconds(step, args.steps))
    speeds = {who: 1 / statistics.median(taken) for who, taken in times.items()}
    result |= speeds | {"times as fast": ratio(times["straightforward"], times["ours"])}
    if args.pictures > 1:
        gain = args.pictures * ratio(times["ours"], times["together"])
        result |= {"times the pictures": gain}
    return result


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over the turns."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="in a row, before the other's turn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pictures", type=int, default=1, help="that are fitted together")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # the same arithmetic in both
    results = {name: measure(name, args) for name in VERSIONS}
    print(json.dumps({**vars(args), "iterations a second": results}, indent=2))


if __name__ == "__main__":
    main()
