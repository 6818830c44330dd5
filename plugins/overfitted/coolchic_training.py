"""Training networks of COOL-CHIC side by side: iterations of a stage, and the best state."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compressai_gen.losses.exchange import exchange_rate
from compressai_gen.losses.loading import Loss
from compressai_gen_plugins.overfitted.coolchic import CoolChic, grid_sizes
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX, Cost, noise_of
from compressai_gen_plugins.overfitted.coolchic_schedules import Stage
from compressai_gen_plugins.overfitted.coolchic_versions import Version
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, kinds, rounded, weight_bits
from compressai_gen_plugins.overfitted.fits import Progress
from compressai_gen_plugins.overfitted.stack import Stack, Weights, clip

CHECK = 50
"""Iterations between looks at the loss with rounded latents."""

PEAK = 1e-2
"""Learning rate of Adam at the start."""

SAVED = 500
"""Iterations of a stage between its states."""

RISE = 50
"""Iterations at the start of a stage in which its learning rate rises, a quarter of it at most.

Adam begins with steps as long as the learning rate, whatever the gradient: in v2 they can switch
off one of the three rectified channels that all of the picture goes through, for good. A warm-up
has no such rise: fresh networks need a push, and the better candidates go on.
"""

AT_ONCE = 2**22
"""Pixels of all pictures that are fitted at once on a GPU: ten of 768x512, some GiB."""


class Training:
    """Networks of some pictures, of each as many candidates.

    Args:
        x: shape (B, 3, H, W) in [0, 1], on the device to use.
        version: V1 or V2.
        multipliers: lambda of every picture.
        loss: what is minimised beside the rate.
        seed: of the noise.
        progress: called now and then.
        same_lambda: leave lambda alone, whatever the loss.
    """

    def __init__(
        self,
        x: Tensor,
        version: Version,
        multipliers: Sequence[float],
        loss: Loss,
        seed: int = 0,
        progress: Progress | None = None,
        same_lambda: bool = False,
    ) -> None:
        self.x, self.version = x, version
        self.progress, self.same_lambda = progress, same_lambda
        self.multipliers = torch.tensor(multipliers, device=x.device)
        self.scales = torch.ones_like(self.multipliers)
        """Of every picture, what D is multiplied with; see `adapt`."""
        self.errors = torch.zeros_like(self.scales)
        """Of every picture, the mean square with which that was found."""
        self.cost = Cost(self.fresh(), loss)
        self.noise = [torch.Generator(x.device).manual_seed(seed) for _ in x]
        self.done = 0
        self.steps: list[Steps] = []
        self.underway: dict[str, Any] = {}
        """Of a training that is to be gone on with: what `train` saved."""
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

    def network(self, number: int) -> CoolChic:
        """The network of a row of the stack."""
        network = copy.deepcopy(self.cost.network)
        weights = self.stack.one(number)
        network.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights.items()})
        return network.requires_grad_()

    @torch.no_grad()
    def adapt(self, fallen: bool = False) -> None:
        """Divide D by dD / dMSE, so that it grows as a mean square does and lambda means the same.

        As it is for a picture's first network now: of L1, for one, it grows as the error falls. (D,
        not lambda, since gradients are clipped at a norm that was published for the mean square.)
        Costs of before do not compare with those to come.

        Args:
            fallen: only of pictures whose mean square error is half of what it was, or less.
        """
        if self.same_lambda:
            return
        for number, x in enumerate(self.x[:, None]):
            first = number * self.candidates
            network = self.network(first)
            error = network.picture(network.latents(torch.round)) - x
            square = error.square().mean()
            if fallen and square > self.errors[number] / 2:
                continue
            rate = exchange_rate(error, self.cost.judge[0], x)
            if rate is not None:
                self.scales[number], self.errors[number] = 1 / rate, square
            self.best_cost[first : first + self.candidates] = float("inf")

    def train(
        self, stage: Stage, temperatures: tuple[float, float] | None = None, rise: int = RISE
    ) -> None:
        """One stage, or what is left of it; ends with the best state so far.

        Args:
            stage: says how long, and what.
            temperatures: of soft rounding, at its start and at its end; None for none.
            rise: iterations in which the learning rate rises.
        """
        parameters = self.stack.trained(self.cost.names(stage.part))
        optimizer = torch.optim.Adam(parameters, PEAK * stage.rate, fused=True)
        since = torch.zeros(len(self.stack), device=self.x.device)
        first, rise = 0, min(rise, stage.iterations // 4) or 1
        if self.underway:
            first, since = self.underway["step"], self.underway["since"]
            optimizer.load_state_dict(self.underway["optimizer"])
            self.underway = {}
        for step in range(first, stage.iterations):
            if step % SAVED == 0 and step > first:
                self.save({"step": step, "since": since, "optimizer": optimizer.state_dict()})
            if step % CHECK == 0:
                if stage.filling:
                    self.adapt(fallen=True)
                since = (since + CHECK) * ~self.look()
                if stage.patience is not None and bool((since > stage.patience).all()):
                    break
            optimizer.param_groups[0]["lr"] = PEAK * stage.rate * min(1, (step + 1) / rise)
            self.step(optimizer, stage, between(temperatures, step / stage.iterations))
            self.done += self.candidates
        self.look()
        self.stack.weights = {name: value.clone() for name, value in self.best.items()}

    def save(self, underway: Mapping[str, Any]) -> None:
        """Keep the state, with what :meth:`train` goes on from; here nowhere."""

    def step(
        self, optimizer: torch.optim.Optimizer, stage: Stage, temperature: float | None = None
    ) -> None:
        """One iteration."""
        inputs = *self.inputs(), [] if stage.rounded else self.drawn()
        options = {"part": stage.part, "temperature": temperature}
        self.stack.differentiate(inputs, self.written(), **options)
        clip(list(self.stack.weights.values()), self.version.clip)
        optimizer.step()

    def inputs(self) -> tuple[Tensor, ...]:
        """Picture, lambda and scale of every network."""
        numbers = self.x, self.multipliers, self.scales
        return tuple(each.repeat_interleave(self.candidates, 0) for each in numbers)

    def drawn(self) -> list[Tensor]:
        """Uniform numbers for every grid, a picture's from its own generator."""
        return noise_of(self.noise, self.candidates, grid_sizes(*self.x.shape[2:]))

    def check(self) -> Tensor:
        """The cost of every network with rounded latents and a picture in range."""
        costs, _, rate, error = self.stack.evaluate(
            (*self.inputs(), []), self.written(), clamped=True
        )
        if self.progress is not None:
            psnr = -10 * float(error.log10().mean())
            self.progress(self.done, f"{self.told_rate(float(rate.mean()))}, {psnr:.2f} dB")
        return costs

    def told_rate(self, latents: float) -> str:
        """Bits per pixel, the networks' among them as soon as their steps are known."""
        if not self.steps:
            return f"{latents:.3f} bpp and networks"
        bits = [weight_bits(self.network(n), steps) for n, steps in enumerate(self.steps)]
        return f"{latents + sum(bits) / len(bits) / self.x[0, 0].numel():.3f} bpp"

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


def between(ends: tuple[float, float] | None, share: float) -> float | None:
    """So far on the way from one end to the other; None if there are none."""
    return None if ends is None else ends[0] + share * (ends[1] - ends[0])
