"""Exponential moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Average of the parameters over the last steps; what a run exports.

    The decay of step t is ``min(decay, (1 + t) / (10 + t))``, so that the random initial weights
    are forgotten at once.

    Args:
        model: whose parameters are averaged.
        decay: limit of the decay, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the current weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        names, parameters = zip(*model.named_parameters(), strict=True)
        average = [self.average[name] for name in names]
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the average into ``model``."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.average[name])

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        average: dict[str, Tensor] = state["average"]
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
