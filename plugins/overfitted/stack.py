"""Networks of one shape that are fitted side by side.

On a CPU one after the other: what a step of one has in hand should stay in the cache. Elsewhere at
once, by `torch.func.vmap`: a step of one small network is hundreds of short kernels, which leave a
GPU idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from compressai_gen_plugins.overfitted.blocks import at_once

Weights = dict[str, Tensor]
Inputs = tuple[Any, ...]
"""Tensors, or lists of them, with a row for every set."""


class Stack:
    """A module's parameters, several sets of them.

    Args:
        module: says what is computed, ``module(*inputs)``: a tuple of scalars.
        sets: parameters by name, as many as are to be fitted.
        pixels: of all pictures that are computed at once, where they are.
    """

    def __init__(self, module: nn.Module, sets: Sequence[Weights], pixels: int) -> None:
        self.module, self.pixels = module, pixels
        self.weights = {
            name: torch.stack([weights[name].detach() for weights in sets]) for name in sets[0]
        }
        """Every parameter, shape (N, ...)."""

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def one(self, number: int) -> Weights:
        """A set of parameters."""
        return {name: value[number] for name, value in self.weights.items()}

    def copied(self) -> Weights:
        """All parameters as they are."""
        return {name: value.detach().clone() for name, value in self.weights.items()}

    def trained(self, names: Sequence[str]) -> list[Tensor]:
        """These parameters, to be given to an optimiser: they get gradients, the others none.

        Where sets are computed one after the other they are given one by one, too: a step rounds
        its sums as a tensor's length has it, and one picture's would depend on how many there are.
        """
        for name, value in self.weights.items():
            value.requires_grad_(name in names)
            value.grad = torch.zeros_like(value) if name in names else None
        chosen = [self.weights[name] for name in names]
        return (
            chosen if at_once(chosen[0].device) else [row for v in chosen for row in rows_with(v)]
        )

    def differentiate(
        self, inputs: Inputs, at: Weights | None = None, **options: Any
    ) -> tuple[Tensor, ...]:
        """Write the gradients of the first scalar, of every set by itself.

        Args:
            inputs: of the module, with a row for every set; the first are the pictures.
            at: where the gradients are taken, if not at the parameters themselves.
            options: of the module, for all sets.

        Returns:
            every scalar as a vector over the sets.
        """
        values = []
        for rows in self.parts(inputs):
            weights = {
                name: value.detach()[rows].requires_grad_(self.weights[name].requires_grad)
                for name, value in (at or self.weights).items()
            }
            wanted = {name: value for name, value in weights.items() if value.requires_grad}
            scalars = self.values(weights, rows_of(inputs, rows), options)
            found = torch.autograd.grad(
                scalars[0].sum(), list(wanted.values()), allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(wanted, found, strict=True):
                self.weights[name].grad[rows] = gradient  # type: ignore[index]
            values.append([scalar.detach() for scalar in scalars])
        return tuple(torch.cat(column) for column in zip(*values, strict=True))

    @torch.no_grad()
    def evaluate(
        self, inputs: Inputs, at: Weights | None = None, **options: Any
    ) -> tuple[Tensor, ...]:
        """What the module says, every scalar as a vector over the sets; arguments as above."""
        values = [
            self.values(rows_of(at or self.weights, rows), rows_of(inputs, rows), options)
            for rows in self.parts(inputs)
        ]
        return tuple(torch.cat(column) for column in zip(*values, strict=True))

    def values(self, weights: Weights, inputs: Inputs, options: Any) -> tuple[Tensor, ...]:
        """The same of some rows."""

        def call(weights: Weights, inputs: Inputs) -> Any:
            return functional_call(self.module, weights, inputs, options)

        if len(inputs[0]) > 1:
            return vmap(call)(weights, inputs)
        return tuple(value[None] for value in call(*rows_of((weights, inputs), 0)))

    def parts(self, inputs: Inputs) -> Iterator[slice]:
        """Rows that are computed at once."""
        size = rows_at_once(inputs[0], self.pixels)
        for first in range(0, len(inputs[0]), size):
            yield slice(first, first + size)


def rows_at_once(x: Tensor, pixels: int) -> int:
    """How many fits of pictures (..., H, W) are computed at once."""
    return max(1, pixels // (x.shape[-2] * x.shape[-1])) if at_once(x.device) else 1


def rows_with(parameter: Tensor) -> list[Tensor]:
    """The rows of a parameter as parameters, with the same memory for values and gradients."""
    rows = [row.requires_grad_() for row in parameter.detach().unbind()]
    for row, gradient in zip(rows, cast(Tensor, parameter.grad).unbind(), strict=True):
        row.grad = gradient
    return rows


def rows_of(tensors: Any, rows: slice | int) -> Any:
    """Some rows of tensors in dictionaries, tuples and lists."""
    return tree_map(lambda tensor: tensor[rows], tensors)


def clip(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale the gradients (N, ...) down to a norm of at most ``limit``, every set's by itself."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in gradients])
    scale = (limit / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.dim() - 1))
