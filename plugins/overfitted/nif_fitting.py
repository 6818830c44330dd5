"""Fitting NIF's networks to pictures.

As published: cycles of full-precision training, each with a falling learning rate and from the best
state of the one before, its weights shaken; then cycles with weights as they will be in the file. A
picture is four interleaved ones, each a step. Ours: the best state is the one with the lowest
*trained* loss (the public code takes PSNR whatever it trains), of rounded weights over the whole
picture as soon as they are rounded, and levels are rounded (it truncates).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from compressai_gen.errors import ImageError
from compressai_gen.losses.loading import Loss
from compressai_gen.training.state_file import StateFile
from compressai_gen_plugins.overfitted.fits import Progress, checked, training
from compressai_gen_plugins.overfitted.nif import Nif, Sizes, features, grid
from compressai_gen_plugins.overfitted.nif_cost import Cost, loss_of
from compressai_gen_plugins.overfitted.nif_schedules import FULL, ROUNDED, Phase, Schedule
from compressai_gen_plugins.overfitted.stack import Stack, Weights
from compressai_gen_plugins.overfitted.states import kept
from compressai_gen_plugins.overfitted.weights import dequantised, quantised

PHASES = 2
"""Rows and columns are interleaved so many times: PHASES**2 pictures, a step each."""

AT_ONCE = 2**20
"""Pixels of all interleaved pictures that are fitted at once on a GPU: ten of 384x256, which take
2 GiB with the smallest networks and 8 with the largest.
"""


def fit(
    x: Tensor,
    sizes: Sizes,
    schedule: Schedule,
    *,
    loss: str = "lc-ssim",
    seed: int = 0,
    state: Path | None = None,
    progress: Progress | None = None,
) -> list[Nif]:
    """Networks whose rounded weights draw the pictures; on a GPU all are fitted at once.

    Args:
        x: shape (B, 3, H, W) in [0, 1], floating point, on the device to use.
        sizes: of the networks.
        schedule: see ``SCHEDULES`` of `nif_schedules`.
        loss: name of a registered one.
        seed: of initial weights and shakes, the same for every picture.
        state: a folder that the state is kept in, from which an interrupted fit goes on.
        progress: called after every iteration.

    Returns:
        in evaluation mode, their weights those of the file.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
        ImageError: not such pictures, or too small for the loss to judge.
        OptionError: a picture that is too large.
        CodecError: of the state: it is damaged, or cannot be written.
    """
    settings = {"codec": "nif", "size": sizes, "preset": schedule, "loss": loss, "seed": seed}
    with training(seed):
        x = checked(x, "nif", numbers_a_pixel(sizes))
        network = Nif(sizes).to(x.device)
        where = kept(state, x, **settings)
        fitting = Fitting(x, network, schedule, loss_of(loss, x.device), seed, where)
        fitting.try_loss(*x.shape[2:])
        return fitting.run(progress)


def numbers_a_pixel(sizes: Sizes) -> int:
    """That a fit has in memory: four of every unit, at the quarter of the pixels that is a step's.

    The 250 are fitted, the network's inputs among them. Measured are 486 to 499 for quality 1, 795
    to 861 for 4 and 1202 to 1404 for 7 (512x512, beside the process's own, several losses); this
    tells 478, 782 and 1373.
    """
    return 250 + sum(sizes.hidden) + sum(sizes.modulator)


class Fitting:
    """Fits of some pictures, step by step.

    Args:
        x, seed: as for :func:`fit`.
        network: fresh, where every picture's starts.
        schedule: how long.
        loss: what is minimised.
        state: kept after every cycle.
    """

    def __init__(
        self,
        x: Tensor,
        network: Nif,
        schedule: Schedule,
        loss: Loss,
        seed: int = 0,
        state: StateFile | None = None,
    ) -> None:
        self.cost, self.schedule, self.state = Cost(network, loss), schedule, state
        self.stack = Stack(self.cost, [self.cost.state_dict()] * len(x), AT_ONCE)
        self.shakes = [torch.Generator().manual_seed(seed) for _ in x]
        self.pieces = list(pieces(x))
        self.rate = 8 * sum(p.numel() for p in network.parameters()) / x[0, 0].numel()
        """Bits per pixel, about: a byte a weight."""
        self.best_loss = torch.full((len(x),), float("inf"), device=x.device)
        self.best = self.stack.copied()
        self.done = 0
        self.resume()

    @torch.no_grad()
    def try_loss(self, height: int, width: int) -> None:
        """Judge the smallest interleaved picture of one of this size.

        Raises:
            ImageError: the loss cannot.
        """
        part = self.pieces[-1][0][:1]
        try:
            self.cost.judge[0](part, part)
        except ImageError as error:
            raise ImageError(
                f"{width}x{height}: nif judges every second row and column by itself; {error}"
            ) from error

    def run(self, progress: Progress | None = None) -> list[Nif]:
        """All cycles that are not done yet."""
        schedule = self.schedule
        parts = [(FULL, c, schedule.iterations) for c in range(schedule.cycles)]
        parts += [(ROUNDED, c, schedule.rounded_iterations) for c in range(schedule.rounded_cycles)]
        start = 0
        for phase, cycle, steps in parts:
            if self.done < start + steps:
                self.cycle(phase, cycle, steps, progress)
            start += steps
        return [self.network(number) for number in range(len(self.stack))]

    def network(self, number: int) -> Nif:
        """The network of a picture, with the weights of its file."""
        network = Nif(self.cost.network.sizes).to(self.best_loss.device)
        weights = zip(network.parameters(), self.stack.one(number).values(), strict=True)
        with torch.no_grad():
            for weight, value in weights:
                weight.copy_(rounded(value))
        return network.eval()

    def cycle(self, phase: Phase, cycle: int, steps: int, progress: Progress | None) -> None:
        """One cycle, which ends with the best state so far."""
        is_rounded = phase is ROUNDED
        if is_rounded and cycle == 0:
            self.best_loss.fill_(float("inf"))  # what counts from now on is the rounded network
            self.look()
        shares = self.schedule.rounded_cycles if is_rounded else self.schedule.cycles
        if cycle:
            self.shake(cycle / shares, is_rounded)
        parameters = self.stack.trained(list(self.stack.weights))
        optimizer = torch.optim.AdamW(parameters, phase.peak, weight_decay=phase.decay, fused=True)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = phase.rate(cycle, step, steps)
            _, error = self.iterate(optimizer, is_rounded)
            self.done += 1
            if progress is not None:
                psnr = -10 * float(error.log10().mean())
                progress(self.done, f"about {self.rate:.2f} bpp, {psnr:.2f} dB")
        self.stack.weights = {name: value.clone() for name, value in self.best.items()}
        self.save()

    def iterate(self, optimizer: torch.optim.Optimizer, is_rounded: bool) -> Tensor:
        """A step for every interleaved picture; losses and square errors (2, B).

        Of rounded networks these are of the state after all steps, which costs a quarter of the
        time. Otherwise every step's own are summed, which costs nothing, and taken for those of the
        state before them: all that hangs on it is where the next cycle starts.
        """
        before, values = self.stack.copied(), []
        for piece in self.pieces:
            at = self.rounded() if is_rounded else None
            values.append(self.stack.differentiate(piece, at))  # rounding passes gradients through
            optimizer.step()
        return self.look() if is_rounded else self.keep(before, values)

    def look(self) -> Tensor:
        """Judge all networks as in a file, and keep what is the best so far."""
        at = self.rounded()
        values = [self.stack.evaluate(piece, at) for piece in self.pieces]
        return self.keep(self.stack.weights, values)

    def keep(self, weights: Weights, values: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """Keep weights that are the best so far; means over what every piece says of them."""
        sizes = [target[0].numel() for target, *_ in self.pieces]
        stacked = torch.stack([torch.stack(each) for each in values])
        means = (stacked * stacked.new_tensor(sizes).view(-1, 1, 1)).sum(0) / sum(sizes)
        better = means[0] < self.best_loss
        self.best_loss = torch.where(better, means[0], self.best_loss)
        for name, value in weights.items():
            self.best[name][better] = value.detach()[better]
        return means

    def rounded(self) -> Weights:
        """All weights as in a file."""
        return {name: each_rounded(value) for name, value in self.stack.weights.items()}

    def shake(self, progress: float, is_rounded: bool) -> None:
        """Shake every network, by its own generator."""
        for number, generator in enumerate(self.shakes):
            weights = {
                name.removeprefix("network."): value
                for name, value in self.stack.one(number).items()
            }
            shake(weights, progress, is_rounded, generator)

    def save(self) -> None:
        """Keep the state."""
        if self.state is not None:
            self.state.write(
                {
                    "best": self.best,
                    "best_loss": self.best_loss,
                    "done": self.done,
                    "shakes": [generator.get_state() for generator in self.shakes],
                }
            )

    def resume(self) -> None:
        """Go on from the last finished cycle."""
        content = None if self.state is None else self.state.read()
        if content is None:
            return
        device = self.best_loss.device
        self.best = {name: value.to(device) for name, value in content["best"].items()}
        self.best_loss, self.done = content["best_loss"].to(device), content["done"]
        for generator, state in zip(self.shakes, content["shakes"], strict=True):
            generator.set_state(state)
        self.stack.weights = {name: value.clone() for name, value in self.best.items()}


def pieces(x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The interleaved pictures (B, 3, h, w), and what the networks take for each, (B, P, C)."""
    count, _, height, width = x.shape
    positions = grid(height, width, x.device).view(height, width, 2)
    for top in range(min(PHASES, height)):
        for left in range(min(PHASES, width)):
            part = positions[top::PHASES, left::PHASES].reshape(-1, 2)
            inputs = [values.expand(count, -1, -1) for values in features(part)]
            yield x[:, :, top::PHASES, left::PHASES].contiguous(), inputs[0], inputs[1]


@torch.no_grad()
def shake(weights: Weights, progress: float, is_rounded: bool, generator: torch.Generator) -> None:
    """Add sparse noise to all matrices but those of the first layers.

    Args:
        weights: of a network, by name; changed in place.
        progress: of the cycles, in (0, 1).
        is_rounded: less noise.
        generator: on the CPU.
    """
    if is_rounded:
        kept, size = 0.005, 0.005 * progress
    else:
        kept = 0.125 + (0.7 - 0.125) * progress**0.05
        size = 0.9 + (0.2 - 0.9) * progress**0.2
    for name, weight in weights.items():
        _, layer, kind = name.split(".")
        if kind == "bias" or layer == "0":
            continue
        reach = size * weight.abs().mean()
        noise = (2 * torch.rand(weight.shape, generator=generator) - 1).to(weight.device) * reach
        mask = (torch.rand(weight.shape, generator=generator) < kept).to(weight.device)
        weight += noise * mask / kept


def rounded(weight: Tensor) -> Tensor:
    """A tensor with the weights of the file."""
    return dequantised(*quantised(weight))


def each_rounded(weights: Tensor) -> Tensor:
    """A tensor of every network, (N, ...)."""
    return torch.stack([rounded(weight) for weight in weights.detach()])
