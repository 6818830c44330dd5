"""What a fit of COOL-CHIC minimises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss, load_loss
from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.rounding import quantised

PREFIX = "network."
"""Of a network's parameters among those of `Cost`."""

PARTS = {
    "latents": ("grids", "log2_gains"),
    "arm": ("arm",),
    "synthesis": ("synthesis", "kernel"),
    "networks": ("arm", "synthesis", "kernel"),
    "all": ("grids", "log2_gains", "arm", "synthesis", "kernel"),
}
"""What a stage trains: first words of parameters' names."""


class Cost(nn.Module):
    """``D + lambda R``, with R in bits per pixel.

    Args:
        network: of one picture.
        loss: D.
    """

    def __init__(self, network: CoolChic, loss: Loss) -> None:
        super().__init__()
        self.network, self.judge = network, [loss]  # in a list: its weights are not a fit's

    def forward(
        self,
        x: Tensor,
        multiplier: Tensor,
        scale: Tensor,
        noise: list[Tensor],
        part: str = "all",
        temperature: float | None = None,
        clamped: bool = False,
    ) -> tuple[Tensor, ...]:
        """The cost, D and R, scalars; of a picture in range also its mean square error.

        The public codes train the picture in range, too. Then a start with all of it below zero
        has no gradient, and a fit with a single candidate stays grey.

        Args:
            x: shape (3, H, W) in [0, 1].
            multiplier: lambda.
            scale: what D is multiplied with, so that it grows as a mean square does.
            noise: uniform numbers in [0, 1] for each grid; an empty list rounds.
            part: what is trained; a term that it does not change is left out.
            temperature: of soft rounding beside noise; None for none.
            clamped: judge the picture in range, as a file's is.
        """
        latents = self.latents(noise, temperature)
        distortion, rate = x.new_zeros(()), x.new_zeros(())
        error: tuple[Tensor, ...] = ()
        if part != "arm":
            x_hat = self.network.picture(latents)
            if clamped:
                x_hat = x_hat.clamp(0, 1)
                error = ((x_hat - x).square().mean(),)
            distortion = scale * self.judge[0](x_hat, x[None]).mean()
        if part != "synthesis":
            rate = self.network.rate(latents) / x[0].numel()
        return distortion + multiplier * rate, distortion, rate, *error

    def latents(self, noise: list[Tensor], temperature: float | None) -> list[Tensor]:
        """With noise or rounded, gradients times the version's slope."""
        version, numbers = self.network.version, iter(noise)

        def trained(y: Tensor) -> Tensor:
            if not noise:
                return y.round().detach() + version.round_slope * (y - y.detach())
            y_hat = quantised(y, next(numbers), temperature)
            return y_hat.detach() + version.noise_slope * (y_hat - y_hat.detach())

        return self.network.latents(trained)

    def names(self, part: str) -> list[str]:
        """Parameters that a stage trains."""
        own = [name for name, _ in self.network.named_parameters()]
        return [PREFIX + name for name in own if name.split(".")[0] in PARTS[part]]


def noise_of(
    generators: Sequence[torch.Generator], count: int, sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Numbers in [0, 1] for grids of these sizes, each (N, 1, 1, h, w), N a count from each."""
    areas = [height * width for height, width in sizes]
    shape = count, sum(areas)
    rows = [torch.rand(shape, generator=g, device=g.device) for g in generators]
    grids = torch.cat(rows).split(areas, 1)
    return [grid.view(-1, 1, 1, *size) for grid, size in zip(grids, sizes, strict=True)]


def loss_of(name: str, device: torch.device) -> Loss:
    """A registered loss; the one called mse on the scale of [0, 1]."""
    loss: Any = load_loss(name)
    if isinstance(loss, nn.Module):
        return loss.to(device)
    return (lambda x_hat, x: loss(x_hat, x) / 255**2) if name == "mse" else loss
