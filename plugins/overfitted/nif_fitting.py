"""Fitting NIF's network to a picture.

As published: cycles of full-precision training, each with a falling learning rate and from the best
state of the one before, its weights shaken; then cycles with weights as they will be in the file. A
picture is four interleaved ones, each a step. Ours: the best state is the one with the lowest
*trained* loss (the public code takes PSNR whatever it trains), and levels are rounded (it
truncates).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressai_gen.losses.loading import Loss, load_loss
from compressai_gen_plugins.overfitted.nif import Nif, Sizes, features, grid
from compressai_gen_plugins.overfitted.weights import dequantised, quantised

DATA_SCALE = 2.0
"""The published losses see pictures in [-1, 1]."""

PHASES = 2
"""Rows and columns are interleaved so many times: PHASES**2 pictures, a step each."""


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast.

    Attributes:
        cycles, iterations: of full-precision training.
        rounded_cycles, rounded_iterations: with rounded weights.
    """

    cycles: int
    iterations: int
    rounded_cycles: int
    rounded_iterations: int

    @property
    def total(self) -> int:
        """Iterations in all."""
        return self.cycles * self.iterations + self.rounded_cycles * self.rounded_iterations


SCHEDULES = {
    "draft": Schedule(2, 50, 1, 20),
    "fast": Schedule(4, 150, 2, 40),
    "medium": Schedule(7, 150, 3, 40),
    "slow": Schedule(10, 150, 5, 40),
}
"""By preset; "slow" is the published one."""


@dataclass(frozen=True)
class Phase:
    """The learning rate of one cycle: linear warm-up, then linear fall.

    Attributes:
        peak, floor: of the learning rate.
        warmup: iterations.
        decay: of the weights.
        fading: the peak of a cycle over that of the one before.
    """

    peak: float
    floor: float
    warmup: int
    decay: float
    fading: float

    def rate(self, cycle: int, step: int, steps: int) -> float:
        """At an iteration of a cycle."""
        peak = self.peak * self.fading**cycle
        if step < self.warmup:
            return self.floor + (peak - self.floor) * step / max(1, self.warmup - 1)
        return self.floor + (peak - self.floor) * (1 - step / steps)


FULL = Phase(peak=1e-3, floor=6e-4, warmup=20, decay=1e-4, fading=0.99)
ROUNDED = Phase(peak=5e-5, floor=2e-5, warmup=5, decay=1e-4, fading=1.0)

Progress = Callable[[int, float], None]
"""Iterations done, and the mean loss of the last one."""


def fit(
    x: Tensor,
    sizes: Sizes,
    schedule: Schedule,
    *,
    loss: str = "lc-ssim",
    seed: int = 0,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Nif:
    """A network whose rounded weights draw the picture.

    Args:
        x: shape (3, H, W) in [0, 1], on the device to use.
        sizes: of the network.
        schedule: see ``SCHEDULES``.
        loss: name of a registered one.
        seed: of initial weights and shakes.
        state: a file that the state is kept in, from which an interrupted fit goes on.
        progress: called after every iteration.

    Returns:
        in evaluation mode, its weights those of the file.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
        ImageError: the loss cannot judge pictures this small.
    """
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitting = Fitting(x, Nif(sizes).to(x.device), schedule, loss_of(loss), state)
        fitting.run(progress)
    return rounded(fitting.network.eval())


def loss_of(name: str) -> Loss:
    """A registered loss, at NIF's scale of data where it has one."""
    loss: Any = load_loss(name)
    if not isinstance(loss, nn.Module) and "data_scale" in signature(loss).parameters:
        return partial(loss, data_scale=DATA_SCALE)
    return loss


class Fitting:
    """One fit, step by step.

    Args:
        x, state: as for :func:`fit`.
        network: fresh.
        schedule: how long.
        loss: what is minimised.
    """

    def __init__(
        self, x: Tensor, network: Nif, schedule: Schedule, loss: Loss, state: Path | None
    ) -> None:
        self.network, self.schedule, self.loss, self.state = network, schedule, loss, state
        self.pieces = list(pieces(x))
        self.best, self.best_loss = copy.deepcopy(network.state_dict()), float("inf")
        self.done = 0
        self.resume()

    def run(self, progress: Progress | None) -> None:
        """All cycles that are not done yet."""
        schedule = self.schedule
        parts = [(FULL, c, schedule.iterations) for c in range(schedule.cycles)]
        parts += [(ROUNDED, c, schedule.rounded_iterations) for c in range(schedule.rounded_cycles)]
        start = 0
        for phase, cycle, steps in parts:
            if self.done < start + steps:
                self.cycle(phase, cycle, steps, progress)
            start += steps

    def cycle(self, phase: Phase, cycle: int, steps: int, progress: Progress | None) -> None:
        """One cycle, which ends with the best state so far."""
        is_rounded = phase is ROUNDED
        if is_rounded and cycle == 0:
            self.best_loss = float("inf")  # what counts from now on is the rounded network
        shares = self.schedule.rounded_cycles if is_rounded else self.schedule.cycles
        if cycle:
            shake(self.network, cycle / shares, is_rounded)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), phase.peak, weight_decay=phase.decay
        )
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = phase.rate(cycle, step, steps)
            value = self.iterate(optimizer, is_rounded)
            self.done += 1
            if progress is not None:
                progress(self.done, value)
        self.network.load_state_dict(self.best)
        self.save()

    def iterate(self, optimizer: torch.optim.Optimizer, is_rounded: bool) -> float:
        """A step for every interleaved picture; the mean loss before them."""
        before, total = copy.deepcopy(self.network.state_dict()), 0.0
        for position, modulation, target in self.pieces:
            weights = straight_through(self.network) if is_rounded else {}
            colours = functional_call(self.network, weights, (position, modulation))
            x_hat = (colours.T.reshape(target.shape) + 1) / 2
            value = self.loss(x_hat, target).mean()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += float(value.detach()) * target.numel()
        mean = total / sum(target.numel() for *_, target in self.pieces)
        if mean < self.best_loss:
            self.best_loss, self.best = mean, before
        return mean

    def save(self) -> None:
        """Keep the state, written beside the old one and renamed."""
        if self.state is None:
            return
        content = {"best": self.best, "best_loss": self.best_loss, "done": self.done}
        fresh = self.state.with_name(f".{self.state.name}.new")
        torch.save(content, fresh)
        os.replace(fresh, self.state)

    def resume(self) -> None:
        """Go on from the last finished cycle."""
        if self.state is None or not self.state.exists():
            return
        content = torch.load(self.state, map_location="cpu", weights_only=True)
        self.best, self.best_loss, self.done = (
            content[name] for name in ("best", "best_loss", "done")
        )
        self.network.load_state_dict(self.best)


def pieces(x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The interleaved pictures: what the network takes, and the target (1, 3, h, w)."""
    _, height, width = x.shape
    positions = grid(height, width, x.device).view(height, width, 2)
    for top in range(min(PHASES, height)):
        for left in range(min(PHASES, width)):
            part = positions[top::PHASES, left::PHASES].reshape(-1, 2)
            yield (*features(part), x[None, :, top::PHASES, left::PHASES].contiguous())


@torch.no_grad()
def shake(network: Nif, progress: float, is_rounded: bool) -> None:
    """Add sparse noise to all weights but those of the first layers.

    Args:
        network: changed in place.
        progress: of the cycles, in (0, 1).
        is_rounded: less noise.
    """
    if is_rounded:
        kept, size = 0.005, 0.005 * progress
    else:
        kept = 0.125 + (0.7 - 0.125) * progress**0.05
        size = 0.9 + (0.2 - 0.9) * progress**0.2
    for layer in (*network.layers[1:], *network.modulator[1:]):
        weight = layer.weight
        reach = size * weight.abs().mean()
        noise = (2 * torch.rand(weight.shape) - 1).to(weight.device) * reach
        mask = (torch.rand(weight.shape) < kept).to(weight.device)
        weight += noise * mask / kept


def straight_through(network: nn.Module) -> dict[str, Tensor]:
    """Rounded weights by name, whose gradients reach the real ones."""
    return {
        name: weight + (dequantised(*quantised(weight)) - weight).detach()
        for name, weight in network.named_parameters()
    }


@torch.no_grad()
def rounded(network: Nif) -> Nif:
    """The network with the weights of the file."""
    for weight in network.parameters():
        weight.copy_(dequantised(*quantised(weight)))
    return network
