"""How the scales and means of y come out of the hyper-synthesis, a part of y at a time.

A prior is a generator: it yields the scales and means of the next part, and the caller fills that
part of y_hat, from the latents or from a stream, before it asks for the one after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.entropy.checkerboard import FixedContext, positions
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.errors import CheckpointError

POSITIONS = 4096
"""Positions evaluated at a time, at most: bounds memory on large pictures."""


@dataclass(frozen=True)
class Part:
    """Some channels of y at some positions.

    Attributes:
        channels: of the M channels.
        positions: flat, in raster order, shape (P,).
    """

    channels: slice
    positions: Tensor


Step = tuple[Part, Tensor, Tensor]
"""A part of y with C channels, its scales and its means, integers in float64, each (C, P)."""


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

    def steps(self, side: Tensor, y_hat: Tensor) -> Iterator[Step]:
        """The parts of y in the order in which they are coded, with their scales and means.

        Args:
            side: output of h_s, shape (K, H, W).
            y_hat: what is decoded so far, zero elsewhere, shape (M, H, W); the caller fills each
                part before it asks for the next.
        """
        params = side.flatten(1)
        where = torch.arange(params.size(1), device=side.device)
        if self.family == "hyperprior":
            scales_hat, means_hat = params, torch.zeros_like(params)
        else:
            scales_hat, means_hat = params.chunk(2)
        yield Part(slice(None), where), scales_hat, means_hat

    def config(self) -> dict[str, Any]:
        """JSON-able, with the family; what ``from_config`` needs."""
        return {"family": self.family}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Prior:
        """An empty prior of the right shapes.

        Raises:
            CheckpointError: if ``config`` did not come from :meth:`config`.
        """
        return cls(config["family"])


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

    def steps(self, side: Tensor, y_hat: Tensor) -> Iterator[Step]:
        anchors, others = positions(side.size(1), side.size(2), self.parity)
        for where, is_anchor in ((anchors, True), (others, False)):
            where = where.to(side.device)
            params = [self._params_at(side, y_hat, part, is_anchor) for part in strips(where)]
            scales_hat, means_hat = torch.cat(params, dim=1).chunk(2)
            yield Part(slice(None), where), scales_hat, means_hat

    def _params_at(self, side: Tensor, y_hat: Tensor, where: Tensor, is_anchor: bool) -> Tensor:
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

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CheckerboardPrior:
        return cls(
            FixedContext.from_config(config.get("context")),
            FixedNetwork.from_config(config.get("entropy_parameters")),
            parity_of(config),
            bool(config.get("context_first")),
        )


def strips(where: Tensor) -> tuple[Tensor, ...]:
    """Flat positions, a bounded number at a time."""
    return where.split(POSITIONS)


def parity_of(config: dict[str, Any]) -> str:
    """Where the anchors lie.

    Raises:
        CheckpointError: neither "even" nor "odd".
    """
    parity = config.get("parity")
    if parity not in ("even", "odd"):
        raise CheckpointError(f"fixed-point config: unknown parity {parity!r} of a checkerboard")
    return str(parity)
