"""Fitting COOL-CHIC to a picture: ``D + lambda R / pixels``, R of latents and, last, of weights.

Latents are trained with uniform noise, then rounded with straight-through gradients; then the
networks are rounded, and the latents get a last chance. What is kept is always the state with the
lowest loss of *rounded* latents (the code of the loss paper keeps the last state, and its v1 never
lowers the learning rate).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss, load_loss
from compressai_gen_plugins.overfitted.coolchic import CoolChic, Version
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, quantise

CHECK = 50
"""Iterations between looks at the loss with rounded latents."""

PEAK = 1e-2
"""Learning rate of Adam at the start."""

Progress = Callable[[int, str], None]
"""Iterations done, and where the fit stands."""


def fit(
    x: Tensor,
    version: Version,
    multiplier: float,
    schedule: Schedule,
    *,
    loss: str = "mse",
    seed: int = 0,
    start: CoolChic | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> tuple[CoolChic, Steps]:
    """A network whose file draws the picture.

    Args:
        x: shape (3, H, W) in [0, 1], on the device to use.
        version: V1 or V2.
        multiplier: lambda, of the rate in bits per pixel, beside a mean square over [0, 1].
        schedule: see ``SCHEDULES`` of `coolchic_schedules`.
        loss: name of a registered one; lambda is adapted to others than mse.
        seed: of initial weights and noise.
        start: a network of the same picture at another rate, which goes on by a shorter schedule.
        state: a file that the state is kept in, from which an interrupted fit goes on.
        progress: called now and then.

    Returns:
        the network with the weights of a file, and their steps.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
        ImageError: the loss cannot judge pictures this small.
    """
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chosen = schedule if start is None else schedule.continued()
        fitting = Fitting(x, version, multiplier, chosen, loss_of(loss), state, progress)
        return fitting.run(start)


def loss_of(name: str) -> Loss:
    """A registered loss; the one called mse on the scale of [0, 1]."""
    loss: Any = load_loss(name)
    return (lambda x_hat, x: loss(x_hat, x) / 255**2) if name == "mse" else loss


class Fitting:
    """One fit.

    Args:
        x, version, multiplier, schedule, state, progress: as for :func:`fit`.
        loss: what is minimised beside the rate.
    """

    def __init__(
        self,
        x: Tensor,
        version: Version,
        multiplier: float,
        schedule: Schedule,
        loss: Loss,
        state: Path | None,
        progress: Progress | None,
    ) -> None:
        self.x, self.version, self.schedule, self.loss = x[None], version, schedule, loss
        self.pixels, self.state, self.progress = x.shape[1] * x.shape[2], state, progress
        self.multiplier, self.adapted = multiplier, False
        self.done, self.stage, self.steps = 0, 0, Steps()
        self.network = self.fresh()
        self.best, self.best_loss = copy.deepcopy(self.network.state_dict()), float("inf")

    def fresh(self) -> CoolChic:
        """Another candidate."""
        return CoolChic(self.version, *self.x.shape[2:]).to(self.x.device)

    def run(self, start: CoolChic | None = None) -> tuple[CoolChic, Steps]:
        """Warm-up, or another fit's network, and stages that are not done yet."""
        if not self.resume():
            if start is None:
                self.warm_up()
            else:
                self.network.load_state_dict(start.state_dict())
                self.adapt()
                self.look()
            self.save()
        for number, stage in enumerate(self.schedule.stages[self.stage :], self.stage):
            if stage.fixed and self.steps == Steps():
                self.round_networks()
            self.train(stage)
            self.stage = number + 1
            self.save()
        if self.steps == Steps():
            self.round_networks()
        return self.network.eval(), self.steps

    def warm_up(self) -> None:
        """Rounds of short trainings; the better half goes on."""
        candidates: list[tuple[float, CoolChic]] = []
        for count, iterations in self.schedule.warmup:
            pool = [network for _, network in candidates] or [self.fresh() for _ in range(count)]
            candidates = []
            for network in pool[:count]:
                self.network, self.best_loss = network, float("inf")
                self.train(Stage(iterations, 1))
                self.adapt()
                candidates.append((self.check(), network))
            candidates.sort(key=lambda pair: pair[0])
        self.best_loss, self.network = candidates[0]
        self.best = copy.deepcopy(self.network.state_dict())

    def adapt(self) -> None:
        """Once: make lambda mean for this loss what it means for the mean square.

        ``lambda_loss = lambda dD / dMSE`` along a growth of the error at hand.
        """
        if self.adapted:
            return
        self.adapted = True
        with torch.no_grad():
            error = self.network.picture(self.network.latents(torch.round)) - self.x
            near, far = self.x + error, self.x + 1.05 * error
            growth = [float((p - self.x).square().mean()) for p in (near, far)]
            slope = float(self.loss(far, self.x) - self.loss(near, self.x))
        self.multiplier *= slope / max(growth[1] - growth[0], 1e-12)

    def train(self, stage: Stage) -> None:
        """One stage; ends with the best state so far."""
        optimizer, since = self.optimizer(stage), 0
        for step in range(stage.iterations):
            if step % CHECK == 0:
                since = 0 if self.look() else since + CHECK
                if stage.patience is not None and since > stage.patience:
                    break
            self.step(optimizer, stage)
            self.done += 1
        self.look()
        self.network.requires_grad_()
        self.network.load_state_dict(self.best)

    def optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        """Of what a stage trains; nothing else gets gradients."""
        self.network.requires_grad_(False)
        chosen = [parameter.requires_grad_() for parameter in self.parameters(stage.part)]
        return torch.optim.Adam(chosen, PEAK * stage.rate, fused=True)

    def step(self, optimizer: torch.optim.Optimizer, stage: Stage) -> None:
        """One iteration."""
        optimizer.zero_grad()
        latents = self.network.latents(self.quantiser(stage.rounded))
        self.cost(latents, stage.part).backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.version.clip)
        optimizer.step()

    def parameters(self, part: str) -> Iterable[nn.Parameter]:
        """What a stage trains."""
        network = self.network
        kernel = [] if network.kernel is None else [network.kernel]
        parts = {
            "latents": [*network.grids, network.log2_gains],
            "arm": list(network.arm.parameters()),
            "synthesis": [*network.synthesis.parameters(), *kernel],
        }
        return [p for group in parts.values() for p in group] if part == "all" else parts[part]

    def quantiser(self, rounded: bool) -> Callable[[Tensor], Tensor]:
        """Noise or rounding, with the version's slope as gradient."""
        slope = self.version.round_slope if rounded else self.version.noise_slope

        def quantised(y: Tensor) -> Tensor:
            y_hat = y.round() if rounded else y + torch.rand(y.shape).to(y) - 0.5
            return y_hat.detach() + slope * (y - y.detach())

        return quantised

    def cost(self, latents: list[Tensor], part: str = "all") -> Tensor:
        """``D + lambda R / pixels``, or the term of it that a network alone changes."""
        cost = torch.zeros((), device=self.x.device)
        if part != "arm":
            cost = cost + self.loss(self.network.picture(latents), self.x).mean()
        if part != "synthesis":
            cost = cost + self.multiplier * self.network.rate(latents) / self.pixels
        return cost

    @torch.no_grad()
    def check(self) -> float:
        """The cost with rounded latents and a picture in range."""
        latents = self.network.latents(torch.round)
        distortion = self.loss(self.network.picture(latents).clamp(0, 1), self.x).mean()
        rate = self.network.rate(latents) / self.pixels
        if self.progress is not None:
            self.progress(self.done, f"{float(rate):.3f} bpp, distortion {float(distortion):.5f}")
        return float(distortion + self.multiplier * rate)

    def look(self) -> bool:
        """Keep the state if it is the best so far."""
        value = self.check()
        if value >= self.best_loss:
            return False
        self.best_loss, self.best = value, copy.deepcopy(self.network.state_dict())
        return True

    def round_networks(self) -> None:
        """Give the networks the weights of a file; what is best starts anew."""
        latents = self.network.latents(torch.round)

        def distortion(x_hat: Tensor) -> Tensor:
            return self.loss(x_hat.clamp(0, 1), self.x).mean()

        self.steps = quantise(self.network, latents, distortion, self.multiplier / self.pixels)
        self.best_loss = float("inf")
        self.best = copy.deepcopy(self.network.state_dict())

    def save(self) -> None:
        """Keep the state, written beside the old one and renamed."""
        if self.state is None:
            return
        content = {
            "best": self.best,
            "best_loss": self.best_loss,
            "done": self.done,
            "stage": self.stage,
            "multiplier": self.multiplier,
            "steps": vars(self.steps),
        }
        fresh = self.state.with_name(f".{self.state.name}.new")
        torch.save(content, fresh)
        os.replace(fresh, self.state)

    def resume(self) -> bool:
        """Go on from the last finished stage, if there is one."""
        if self.state is None or not self.state.exists():
            return False
        content = torch.load(self.state, map_location="cpu", weights_only=True)
        self.best, self.best_loss = content["best"], content["best_loss"]
        self.done, self.stage = content["done"], content["stage"]
        self.multiplier, self.steps = content["multiplier"], Steps(**content["steps"])
        self.adapted = True
        self.network.load_state_dict(self.best)
        return True
