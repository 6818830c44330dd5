"""Fitting COOL-CHIC to pictures: ``D + lambda R / pixels``, R of latents and, last, of weights.

Latents are trained softly rounded and with noise (`rounding`), then rounded with straight-through
gradients; then the networks are rounded, too, and trained on as a file holds them; the latents get
a last chance. What is kept is always the state with the lowest loss of *rounded* latents (the code
of the loss paper keeps the last state, and its v1 never lowers the learning rate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressai_gen.losses.loading import Loss
from compressai_gen.training.state_file import StateFile
from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX, Cost, loss_of
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_start import lifted, without_latents
from compressai_gen_plugins.overfitted.coolchic_training import AT_ONCE, Training
from compressai_gen_plugins.overfitted.coolchic_versions import Version
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, choose_steps
from compressai_gen_plugins.overfitted.fits import Progress, checked, training
from compressai_gen_plugins.overfitted.stack import Weights, rows_at_once
from compressai_gen_plugins.overfitted.states import checksum, kept

NUMBERS_A_PIXEL = 190
"""That a fit has in memory with l1-ssim; 110 with mse."""

KEPT = (
    *("best", "best_cost", "scales", "errors", "done", "stage"),
    *("warming", "round", "pool", "ranked"),
)
"""Of `Fitting`, in its state, as they are."""

LAYOUT = 2
"""Of a state: one of another layout is of another fit, hence not looked at."""

Fitted = tuple[CoolChic, Steps]
"""A network with the weights of a file, and their steps."""


def fit(
    x: Tensor,
    version: Version,
    multiplier: float | Sequence[float],
    schedule: Schedule,
    *,
    loss: str = "mse",
    same_lambda: bool = False,
    seed: int = 0,
    start: CoolChic | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> list[Fitted]:
    """Networks whose files draw the pictures.

    On a GPU all pictures are fitted at once. None of them knows of the others, but that a stage
    that ends early ends when the last picture stands still.

    Args:
        x: shape (B, 3, H, W) in [0, 1], floating point, on the device to use.
        version: V1 or V2.
        multiplier: lambda, of the rate in bits per pixel, beside a mean square over [0, 1]; one for
            all pictures, or one for each.
        schedule: see ``SCHEDULES`` of `coolchic_schedules`.
        loss: name of a registered one.
        same_lambda: leave lambda alone, whatever the loss; otherwise rates are about those of mse.
        seed: of initial weights and noise.
        start: a network of the same picture at another rate, whose weights and gains are taken.
        state: a folder that the state is kept in, from which an interrupted fit goes on.
        progress: called now and then.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
        ImageError: not such pictures, or too small for the loss to judge.
        OptionError: a picture that is too large.
        CodecError: of the state: it is damaged, or cannot be written.
    """
    multipliers = [multiplier] * len(x) if isinstance(multiplier, int | float) else multiplier
    chosen = schedule if start is None else schedule.continued()
    settings = {"codec": version.name, "quality": list(multipliers), "preset": chosen}
    settings |= {"loss": loss, "same_lambda": same_lambda, "seed": seed, "layout": LAYOUT}
    settings["start"] = 0 if start is None else checksum(start.state_dict().values())
    with training(seed):
        x = checked(x, version.name, NUMBERS_A_PIXEL)
        where = kept(state, x, **settings)
        judge = loss_of(loss, x.device)
        fitting = Fitting(
            x, version, multipliers, chosen, judge, seed, where, progress, same_lambda
        )
        return fitting.run(start)


class Fitting(Training):
    """Fits of some pictures: a warm-up of candidates, stages, and steps of the networks' weights.

    Args:
        x, version, schedule, seed, progress, same_lambda: as for :func:`fit`.
        multipliers: lambda of every picture.
        loss: what is minimised beside the rate.
        state: kept after every candidate, every stage, and on the way of a long one.
    """

    def __init__(
        self,
        x: Tensor,
        version: Version,
        multipliers: Sequence[float],
        schedule: Schedule,
        loss: Loss,
        seed: int = 0,
        state: StateFile | None = None,
        progress: Progress | None = None,
        same_lambda: bool = False,
    ) -> None:
        super().__init__(x, version, multipliers, loss, seed, progress, same_lambda)
        self.schedule, self.state = schedule, state
        self.warming, self.round, self.stage = bool(schedule.warmup), 0, 0
        self.pool: list[list[Weights]] = [[] for _ in self.x]
        """Candidates of every picture during the warm-up, the better ones first."""
        self.ranked: list[list[tuple[float, Weights]]] = [[] for _ in self.x]
        """Those that were trained in this round, with their costs."""

    def run(self, start: CoolChic | None = None) -> list[Fitted]:
        """Warm-up, or another fit's network, and stages, from where they were left."""
        if not self.resume() and start is not None:
            weights = {PREFIX + name: value for name, value in start.state_dict().items()}
            self.take([without_latents(weights)] * len(self.x))
        if self.warming:
            self.warm_up()
        for number, stage in enumerate(self.schedule.stages[self.stage :], self.stage):
            if not self.underway:
                self.adapt()
                if stage.fixed and not self.steps:
                    self.choose()
            self.train(stage, self.schedule.temperatures(number))
            self.stage = number + 1
            self.save()
        if not self.steps:
            self.choose()
            self.stack.weights = self.written()
        self.check()  # tells of what is kept, which need not be the last state
        return [(self.network(n).eval(), steps) for n, steps in enumerate(self.steps)]

    def warm_up(self) -> None:
        """Rounds of short trainings; the better candidates go on."""
        if not self.pool[0]:
            fresh = [
                Cost(self.fresh(), self.cost.judge[0]) for _ in range(self.schedule.warmup[0][0])
            ]
            self.pool = [[candidate.state_dict() for candidate in fresh]] * len(self.x)
        for count, iterations in self.schedule.warmup[self.round :]:
            self.compete(count, iterations)
            self.round += 1
            self.save()
        if not self.underway:
            self.take([candidates[0] for candidates in self.pool])
            self.stack.weights |= lifted(self.stack.weights, self.version.least_gain)
        if self.schedule.trial:
            self.choose_grids()
        self.look()
        self.pool, self.warming = [[] for _ in self.x], False
        self.save()

    def compete(self, count: int, iterations: int) -> None:
        """A round: the first so many candidates of every picture are trained, and ranked."""
        size = max(1, rows_at_once(self.x, AT_ONCE) // len(self.x))
        for first in range(len(self.ranked[0]), count, size):
            if not self.underway:
                these = slice(first, min(first + size, count))
                self.take([weights for candidates in self.pool for weights in candidates[these]])
            self.train(Stage(iterations, 1), rise=1)
            if first == 0:
                self.adapt()
            for number, cost in enumerate(self.check().tolist()):
                self.ranked[number // self.candidates].append((cost, self.stack.one(number)))
            self.save()
        for candidates in self.ranked:
            candidates.sort(key=lambda pair: pair[0])
        self.pool = [[weights for _, weights in candidates] for candidates in self.ranked]
        self.ranked = [[] for _ in self.x]

    def choose_grids(self) -> None:
        """Train every picture's network beside the same with empty grids; the better goes on."""
        if not self.underway:
            full = [self.stack.one(number) for number in range(len(self.stack))]
            self.take([weights for one in full for weights in (one, without_latents(one))])
            self.adapt()
        self.train(Stage(self.schedule.trial, 1))
        better = self.check().view(-1, 2).argmin(1)
        self.take([self.stack.one(2 * n + row) for n, row in enumerate(better.tolist())])

    @torch.no_grad()
    def choose(self) -> None:
        """Steps for the networks' weights; what is best starts anew."""
        loss, found = self.cost.judge[0], []
        for number, x in enumerate(self.x[:, None]):
            network, scale = self.network(number), self.scales[number]
            found.append(
                choose_steps(
                    network,
                    network.latents(torch.round),
                    lambda x_hat, x=x, scale=scale: scale * loss(x_hat.clamp(0, 1), x).mean(),
                    float(self.multipliers[number]) / x[0, 0].numel(),
                )
            )
        self.steps = found
        self.best_cost.fill_(float("inf"))

    def save(self, underway: Mapping[str, Any] | None = None) -> None:
        """Keep the state, in the middle of a training with what it goes on from."""
        if self.state is not None:
            own = {name: getattr(self, name) for name in KEPT}
            noise = [generator.get_state() for generator in self.noise]
            steps = [vars(steps) for steps in self.steps]
            more = {"weights": self.stack.copied(), "noise": noise, "steps": steps}
            self.state.write({**own, **more, "underway": underway or {}})

    def resume(self) -> bool:
        """Go on from the last state, if there is one."""
        content = None if self.state is None else self.state.read(self.x.device)
        if content is None:
            return False
        weights = content["weights"]
        count = len(content["best_cost"])
        self.take([{name: v[n] for name, v in weights.items()} for n in range(count)])
        for name in (*KEPT, "underway"):
            setattr(self, name, content[name])
        self.steps = [Steps(**steps) for steps in content["steps"]]
        for generator, state in zip(self.noise, content["noise"], strict=True):
            generator.set_state(state.cpu())
        return True
