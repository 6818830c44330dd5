"""How the scales and means of y come out of the hyper-synthesis: three families, one interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.entropy.checkerboard import FixedContext, positions
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.errors import CheckpointError

POSITIONS = 4096
"""Positions evaluated at a time, at most: bounds memory on large pictures."""


class Prior(nn.Module):
    """Scales and means from the output of h_s alone (mean-scale, or scale only with mean 0).

    Args:
        family: "hyperprior" or "mean-scale".
    """

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family = family

    def channels(self, outputs: int) -> int:
        """Channels M of y if h_s has ``outputs`` channels.

        Raises:
            CheckpointError: if it cannot be.
        """
        return outputs if self.family == "hyperprior" else outputs // 2

    def passes(self, height: int, width: int) -> Iterator[Tensor]:
        """Flat positions of y in the order in which they are coded."""
        yield torch.arange(height * width)

    def forward(
        self, side: Tensor, y_hat: Tensor, where: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Scales and means at some positions, integers in float64, each of shape (M, P).

        Args:
            side: output of h_s, shape (K, H, W).
            y_hat: what is decoded so far, zero elsewhere, shape (M, H, W).
            where: flat positions of one pass, shape (P,).
            step: number of the pass, from 0.
        """
        params = side.flatten(1)[:, where]
        if self.family == "hyperprior":
            return params, torch.zeros_like(params)
        scales_hat, means_hat = params.chunk(2)
        return scales_hat, means_hat

    def config(self) -> dict[str, Any]:
        return {"family": self.family}


class CheckerboardPrior(Prior):
    """Scales and means from h_s and, for every second position, from its decoded neighbours.

    .. code-block:: none

        h_s ──────────────────┬──► entropy_parameters ──► scales_hat, means_hat
        y_hat ──► context ────┘    (context is 0 for the anchors, without its bias too)

    Args:
        context: over the anchors' y_hat.
        entropy_parameters: pointwise.
        parity: where the anchors lie, "even" or "odd".
        context_first: the order in which the two inputs are concatenated.
    """

    def __init__(
        self,
        context: FixedContext,
        entropy_parameters: FixedNetwork,
        parity: str,
        context_first: bool,
    ) -> None:
        super().__init__("checkerboard")
        entropy_parameters.check_pointwise()
        self.context = context
        self.entropy_parameters = entropy_parameters
        self.parity, self.context_first = parity, context_first

    def channels(self, outputs: int) -> int:
        context, channels = self.context.weight.shape[:2]
        if self.entropy_parameters.channels() != (outputs + context, 2 * channels):
            raise CheckpointError("the networks of the entropy path do not fit together")
        return channels

    def passes(self, height: int, width: int) -> Iterator[Tensor]:
        yield from positions(height, width, self.parity)

    def forward(
        self, side: Tensor, y_hat: Tensor, where: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        groups = where.split(POSITIONS)
        parts = [self._part(side, y_hat, group, is_anchor=step == 0) for group in groups]
        scales_hat, means_hat = torch.cat(parts, dim=1).chunk(2)
        return scales_hat, means_hat

    def _part(self, side: Tensor, y_hat: Tensor, where: Tensor, is_anchor: bool) -> Tensor:
        own = side.flatten(1).index_select(1, where)
        if is_anchor:
            skip = self.context.weight.size(0) if self.context_first else 0
            return self.entropy_parameters.columns(own, skip)
        context = self.context(y_hat, where)
        both = [context, own] if self.context_first else [own, context]
        return self.entropy_parameters.columns(torch.cat(both))

    def config(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "context": self.context.config(),
            "entropy_parameters": self.entropy_parameters.config(),
            "parity": self.parity,
            "context_first": self.context_first,
        }


def prior_from_config(config: Any) -> Prior:
    """An empty prior of the right shapes.

    Raises:
        CheckpointError: if ``config`` did not come from :meth:`Prior.config`.
    """
    family = config.get("family") if isinstance(config, dict) else None
    if family in ("hyperprior", "mean-scale"):
        return Prior(family)
    parity = config.get("parity") if family == "checkerboard" else None
    if parity not in ("even", "odd"):
        raise CheckpointError(f"fixed-point config: unknown family {family!r} or parity {parity!r}")
    return CheckerboardPrior(
        FixedContext.from_config(config.get("context")),
        FixedNetwork.from_config(config.get("entropy_parameters")),
        parity,
        bool(config.get("context_first")),
    )
