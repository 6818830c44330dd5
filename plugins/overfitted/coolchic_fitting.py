"""Fitting COOL-CHIC to pictures: ``D + lambda R / pixels``, R of latents and, last, of weights.

Latents are trained with uniform noise, then rounded with straight-through gradients; then the
networks are rounded, too, and trained on as a file holds them; the latents get a last chance. What
is kept is always the state with the lowest loss of *rounded* latents (the code of the loss paper
keeps the last state, and its v1 never lowers the learning rate).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from compressai_gen.losses.loading import Loss
from compressai_gen.training.state_file import StateFile
from compressai_gen_plugins.overfitted.coolchic import CoolChic, grid_sizes
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX, Cost, loss_of, noise_of
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_start import exchange_rate, lifted, without_latents
from compressai_gen_plugins.overfitted.coolchic_versions import Version
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, choose_steps, kinds, rounded
from compressai_gen_plugins.overfitted.fits import Progress, checked, training
from compressai_gen_plugins.overfitted.stack import Stack, Weights, clip, rows_at_once
from compressai_gen_plugins.overfitted.states import checksum, kept

CHECK = 50
"""Iterations between looks at the loss with rounded latents."""

PEAK = 1e-2
"""Learning rate of Adam at the start."""

RISE = 50
"""Iterations at the start of a stage in which its learning rate rises, a quarter of it at most.

Adam begins with steps as long as the learning rate, whatever the gradient: in v2 they can switch
off one of the three rectified channels that all of the picture goes through, for good. A warm-up
has no such rise: fresh networks need a push, and the better candidates go on.
"""

AT_ONCE = 2**22
"""Pixels of all pictures that are fitted at once on a GPU: ten of 768x512, some GiB."""

NUMBERS_A_PIXEL = 190
"""That a fit has in memory with l1-ssim; 110 with mse."""

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
    settings |= {"loss": loss, "same_lambda": same_lambda, "seed": seed}
    settings["start"] = 0 if start is None else checksum(start.state_dict().values())
    with training(seed):
        x = checked(x, version.name, NUMBERS_A_PIXEL)
        where = kept(state, x, **settings)
        judge = loss_of(loss, x.device)
        fitting = Fitting(
            x, version, multipliers, chosen, judge, seed, where, progress, same_lambda
        )
        return fitting.run(start)


class Fitting:
    """Fits of some pictures, each with some candidates while it warms up.

    Args:
        x, version, schedule, seed, progress, same_lambda: as for :func:`fit`.
        multipliers: lambda of every picture.
        loss: what is minimised beside the rate.
        state: kept after every stage.
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
        self.x, self.schedule, self.state, self.progress = x, schedule, state, progress
        self.version, self.same_lambda = version, same_lambda
        self.multipliers = torch.tensor(multipliers, device=x.device)
        self.scales = torch.ones_like(self.multipliers)
        """Of every picture, what D is multiplied with; see `adapt`."""
        self.cost = Cost(self.fresh(), loss)
        self.noise = [torch.Generator(x.device).manual_seed(seed) for _ in x]
        self.done, self.stage = 0, 0
        self.steps: list[Steps] = []
        self.take([self.cost.state_dict()] * len(x))

    def fresh(self) -> CoolChic:
        """Another candidate."""
        return CoolChic(self.version, *self.x.shape[2:]).to(self.x.device)

    def take(self, sets: Sequence[Weights]) -> None:
        """Go on with these parameters, every picture's candidates together; none is best yet."""
        self.stack = Stack(self.cost, sets, AT_ONCE)
        self.best = self.stack.copied()
        self.best_cost = torch.full((len(self.stack),), float("inf"), device=self.x.device)

    @property
    def candidates(self) -> int:
        """Of every picture."""
        return len(self.stack) // len(self.x)

    def run(self, start: CoolChic | None = None) -> list[Fitted]:
        """Warm-up, or another fit's network, and stages that are not done yet."""
        if not self.resume():
            if start is None:
                self.warm_up()
            else:
                weights = {PREFIX + name: value for name, value in start.state_dict().items()}
                self.take([without_latents(weights)] * len(self.x))
            self.save()
        for number, stage in enumerate(self.schedule.stages[self.stage :], self.stage):
            self.adapt()
            if stage.fixed and not self.steps:
                self.choose()
            self.train(stage)
            self.stage = number + 1
            self.save()
        if not self.steps:
            self.choose()
            self.stack.weights = self.written()
        self.check()  # tells of what is kept, which need not be the last state
        return [(self.network(n).eval(), steps) for n, steps in enumerate(self.steps)]

    def network(self, number: int) -> CoolChic:
        """The network of a row of the stack."""
        network = copy.deepcopy(self.cost.network)
        weights = self.stack.one(number)
        network.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights.items()})
        return network.requires_grad_()

    def warm_up(self) -> None:
        """Rounds of short trainings; the better candidates go on."""
        fresh = [Cost(self.fresh(), self.cost.judge[0]) for _ in range(self.schedule.warmup[0][0])]
        pool = [[candidate.state_dict() for candidate in fresh] for _ in self.x]
        size = max(1, rows_at_once(self.x, AT_ONCE) // len(self.x))
        for count, iterations in self.schedule.warmup:
            ranked: list[list[tuple[float, Weights]]] = [[] for _ in self.x]
            for first in range(0, count, size):
                last = min(first + size, count)
                self.take([weights for candidates in pool for weights in candidates[first:last]])
                self.train(Stage(iterations, 1), rise=1)
                if first == 0:
                    self.adapt()
                for number, cost in enumerate(self.check().tolist()):
                    ranked[number // self.candidates].append((cost, self.stack.one(number)))
            for candidates in ranked:
                candidates.sort(key=lambda pair: pair[0])
            pool = [[weights for _, weights in candidates] for candidates in ranked]
        self.take([candidates[0] for candidates in pool])
        self.stack.weights |= lifted(self.stack.weights, self.version.least_gain)
        if self.schedule.trial:
            self.choose_grids()
        self.look()

    def choose_grids(self) -> None:
        """Train every picture's network beside the same with empty grids; the better goes on."""
        full = [self.stack.one(number) for number in range(len(self.stack))]
        self.take([weights for one in full for weights in (one, without_latents(one))])
        self.adapt()
        self.train(Stage(self.schedule.trial, 1))
        better = self.check().view(-1, 2).argmin(1)
        self.take([self.stack.one(2 * n + row) for n, row in enumerate(better.tolist())])

    def adapt(self) -> None:
        """Divide D by dD / dMSE, so that it grows as a mean square does and lambda means the same.

        As it is for a picture's first network now: of L1, for one, it grows as the error falls. (D,
        not lambda, since gradients are clipped at a norm that was published for the mean square.)
        Costs of before do not compare with those to come.
        """
        if self.same_lambda:
            return
        for number, x in enumerate(self.x[:, None]):
            network = self.network(number * self.candidates)
            rate = exchange_rate(network, self.cost.judge[0], x)
            if rate is not None:
                self.scales[number] = 1 / rate
        self.best_cost.fill_(float("inf"))

    def train(self, stage: Stage, rise: int = RISE) -> None:
        """One stage; ends with the best state so far."""
        parameters = self.stack.trained(self.cost.names(stage.part))
        optimizer = torch.optim.Adam(parameters, PEAK * stage.rate, fused=True)
        since = torch.zeros(len(self.stack), device=self.x.device)
        rise = min(rise, stage.iterations // 4) or 1
        for step in range(stage.iterations):
            if step % CHECK == 0:
                since = (since + CHECK) * ~self.look()
                if stage.patience is not None and bool((since > stage.patience).all()):
                    break
            optimizer.param_groups[0]["lr"] = PEAK * stage.rate * min(1, (step + 1) / rise)
            self.step(optimizer, stage)
            self.done += self.candidates
        self.look()
        self.stack.weights = {name: value.clone() for name, value in self.best.items()}

    def step(self, optimizer: torch.optim.Optimizer, stage: Stage) -> None:
        """One iteration."""
        noise = [] if stage.rounded else self.drawn()
        self.stack.differentiate((*self.inputs(), noise), self.written(), part=stage.part)
        clip(list(self.stack.weights.values()), self.version.clip)
        optimizer.step()

    def inputs(self) -> tuple[Tensor, ...]:
        """Picture, lambda and scale of every network."""
        numbers = self.x, self.multipliers, self.scales
        return tuple(each.repeat_interleave(self.candidates, 0) for each in numbers)

    def drawn(self) -> list[Tensor]:
        """Uniform noise for every grid, a picture's from its own generator."""
        return noise_of(self.noise, self.candidates, grid_sizes(*self.x.shape[2:]))

    def check(self) -> Tensor:
        """The cost of every network with rounded latents and a picture in range."""
        costs, _, rate, error = self.stack.evaluate(
            (*self.inputs(), []), self.written(), clamped=True
        )
        if self.progress is not None:
            psnr = -10 * error.log10().mean()
            self.progress(self.done, f"{float(rate.mean()):.3f} bpp, {float(psnr):.2f} dB")
        return costs

    def look(self) -> Tensor:
        """Keep states that are the best so far; tells which."""
        costs = self.check()
        better = costs < self.best_cost
        self.best_cost = torch.where(better, costs, self.best_cost)
        for name, value in self.written().items():
            self.best[name][better] = value.detach()[better]
        return better

    def written(self) -> Weights:
        """All parameters; once there are steps, the networks' as in a file.

        Gradients are taken there, and move the parameters themselves.
        """
        weights = dict(self.stack.weights)
        for name, kind in kinds(self.cost.network).items() if self.steps else ():
            bits = [getattr(steps, kind) for steps in self.steps]
            weights[PREFIX + name] = rounded(weights[PREFIX + name], bits)
        return weights

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

    def save(self) -> None:
        """Keep the state."""
        if self.state is not None:
            self.state.write(
                {
                    "best": self.best,
                    "best_cost": self.best_cost,
                    "done": self.done,
                    "stage": self.stage,
                    "steps": [vars(steps) for steps in self.steps],
                }
            )

    def resume(self) -> bool:
        """Go on from the last finished stage, if there is one."""
        content = None if self.state is None else self.state.read(self.x.device)
        if content is None:
            return False
        self.take([{k: v[n] for k, v in content["best"].items()} for n in range(len(self.x))])
        self.best_cost, self.done = content["best_cost"], content["done"]
        self.stage = content["stage"]
        self.steps = [Steps(**steps) for steps in content["steps"]]
        return True
