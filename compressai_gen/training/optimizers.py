"""Which optimiser trains which parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


class ConvolutionMuon(torch.optim.Muon):
    """Muon on convolution weights, each seen as a matrix of one row an output channel.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024: the momentum is
    replaced by the nearest semi-orthogonal matrix, so that every direction of a layer learns at
    the same speed. torch's implementation takes matrices only.

    Args:
        weights: contiguous, shape (outputs, ...), on their final device.
        lr: learning rate.
    """

    def __init__(self, weights: list[nn.Parameter], lr: float) -> None:
        self.weights = weights
        matrices = [nn.Parameter(w.data.view(w.size(0), -1)) for w in weights]  # same memory
        super().__init__(matrices, lr=lr, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients of the weights."""
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None
        super().zero_grad(set_to_none)


class Optimizers:
    """Muon or Adam for the network, Adam for the quantiles, behind one set of verbs.

    The auxiliary loss moves the quantiles of the entropy bottleneck alone, and at a constant rate.

    Args:
        model: on its final device.
        learning_rate: of Adam.
        muon: of Muon for the convolution weights; 0 for Adam.
        weight_decay: of Adam, decoupled.
        adam: names of sub-modules whose convolutions Adam trains too.
    """

    QUANTILES_RATE = 1e-2

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        muon: float = 0.0,
        weight_decay: float = 0.0,
        adam: Sequence[str] = (),
    ) -> None:
        network = network_parameters(model)
        left = {id(p) for name in adam for p in model.get_submodule(name).parameters()}
        matrices = [p for p in network if muon and p.dim() == 4 and id(p) not in left]
        chosen = {id(p) for p in matrices}
        others = [p for p in network if id(p) not in chosen]
        quantiles = [p for n, p in model.named_parameters() if n.endswith(".quantiles")]
        self.peaks: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(others, learning_rate, weight_decay=weight_decay), learning_rate)
        ]
        if matrices:
            self.peaks.append((ConvolutionMuon(matrices, muon), muon))
        self.all = [optimizer for optimizer, _ in self.peaks]
        if quantiles:
            self.all.append(torch.optim.Adam(quantiles, self.QUANTILES_RATE))

    def scale(self, factor: float) -> None:
        """Set the learning rates of the network to ``factor`` times their peaks."""
        for optimizer, peak in self.peaks:
            optimizer.param_groups[0]["lr"] = factor * peak

    def learning_rate(self) -> float:
        """Adam's, now."""
        return float(self.peaks[0][0].param_groups[0]["lr"])

    def step(self) -> None:
        """Update every parameter and forget the gradients."""
        for optimizer in self.all:
            optimizer.step()
        for optimizer in self.all:
            optimizer.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(state)


def network_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Everything but the quantiles: what the main loss trains."""
    return [
        p for n, p in model.named_parameters() if p.requires_grad and not n.endswith(".quantiles")
    ]
