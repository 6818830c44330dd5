"""Groups of channels, one after the other, each a checkerboard: the context model of ELIC.

He et al., "ELIC: Efficient Learned Image Compression with Unevenly Grouped Space-Channel Contextual
Adaptive Coding", CVPR 2022 (arXiv 2203.10886), with a network of their own for the anchors, as
DiffEIC has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.entropy.checkerboard import FixedContext, positions
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.entropy.priors import Part, Prior, Step, parity_of, strips
from compressai_gen.errors import CheckpointError

MAX_GROUPS = 64


class FixedChannelGroup(nn.Module):
    """The networks of one group.

    Args:
        local_context: over the anchors' y_hat of this group.
        channel_context: over y_hat of all groups before; None for the first.
        anchors: pointwise, over channel context and output of h_s.
        others: pointwise, over local context, channel context and output of h_s.
    """

    def __init__(
        self,
        local_context: FixedContext,
        channel_context: FixedNetwork | None,
        anchors: FixedNetwork,
        others: FixedNetwork,
    ) -> None:
        super().__init__()
        anchors.check_pointwise()
        others.check_pointwise()
        self.local_context, self.channel_context = local_context, channel_context
        self.anchors, self.others = anchors, others

    @property
    def size(self) -> int:
        """Channels of the group."""
        return self.local_context.weight.size(1)

    def check(self, start: int, outputs: int) -> None:
        """That the networks fit together.

        Args:
            start: channels of the groups before.
            outputs: channels of h_s.

        Raises:
            CheckpointError: if they do not.
        """
        local, before = self.local_context.weight.size(0), 0
        if self.channel_context is not None:
            inputs, before = self.channel_context.channels()
            if inputs != start:
                raise CheckpointError(f"a channel context of {inputs} inputs after {start}")
        sizes = self.anchors.channels(), self.others.channels()
        wanted = (before + outputs, 2 * self.size), (local + before + outputs, 2 * self.size)
        if sizes != wanted or (self.channel_context is None) != (start == 0):
            raise CheckpointError("the networks of a channel group do not fit together")

    def parameters_at(self, side: Tensor, y_hat: Tensor, where: Tensor, is_anchor: bool) -> Tensor:
        """Scales and means of this group, stacked, (2 size, P), at some positions.

        Args:
            side: channel context and output of h_s, shape (K, H W).
            y_hat: of this group, shape (size, H, W).
            where: flat positions, shape (P,).
            is_anchor: whether they are anchors.
        """
        pieces = []
        for strip in strips(where):
            own = side.index_select(1, strip)
            if is_anchor:
                pieces.append(self.anchors.columns(own))
            else:
                context = self.local_context(y_hat, strip)
                pieces.append(self.others.columns(torch.cat([context, own])))
        return torch.cat(pieces, dim=1)

    def config(self) -> dict[str, Any]:
        channel = self.channel_context
        return {
            "local_context": self.local_context.config(),
            "channel_context": None if channel is None else channel.config(),
            "anchors": self.anchors.config(),
            "others": self.others.config(),
        }

    @classmethod
    def from_config(cls, config: Any) -> FixedChannelGroup:
        if not isinstance(config, dict):
            raise CheckpointError("fixed-point config: expected the networks of a channel group")
        channel = config.get("channel_context")
        return cls(
            FixedContext.from_config(config.get("local_context")),
            None if channel is None else FixedNetwork.from_config(channel),
            FixedNetwork.from_config(config.get("anchors")),
            FixedNetwork.from_config(config.get("others")),
        )


class ChannelGroupsPrior(Prior):
    """Scales and means of a group from h_s, from the groups before and from its own anchors.

    .. code-block:: none

        h_s ─────────────────────────────┬───────► anchors ──► scales_hat, means_hat of anchors
        y_hat of the groups before ─► channel_context
                                         └───┬───► others ───► those of the other positions
        y_hat of the group's anchors ─► local_context

    Args:
        groups: in coding order; their channels follow each other.
        parity: where the anchors lie, "even" or "odd".
    """

    def __init__(self, groups: Iterable[FixedChannelGroup], parity: str) -> None:
        super().__init__("channel-groups")
        self.groups = nn.ModuleList(groups)
        self.parity = parity

    def slices(self) -> list[slice]:
        """The channels of every group."""
        ends = list(accumulate(group.size for group in self.groups))
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]

    def channels(self, outputs: int) -> int:
        slices = self.slices()
        for group, channels in zip(self.groups, slices, strict=True):
            group.check(channels.start, outputs)  # type: ignore[operator]
        return int(slices[-1].stop)

    def steps(self, side: Tensor, y_hat: Tensor) -> Iterator[Step]:
        height, width = side.shape[1:]
        anchors, others = (p.to(side.device) for p in positions(height, width, self.parity))
        for group, channels in zip(self.groups, self.slices(), strict=True):
            known = side.flatten(1)
            if group.channel_context is not None:
                context: Tensor = group.channel_context(y_hat[: channels.start])  # type: ignore
                known = torch.cat([context.flatten(1), known])
            own = y_hat[channels]
            for where, is_anchor in ((anchors, True), (others, False)):
                params = group.parameters_at(known, own, where, is_anchor)  # type: ignore[operator]
                scales_hat, means_hat = params.chunk(2)
                yield Part(channels, where), scales_hat, means_hat

    def config(self) -> dict[str, Any]:
        groups = [group.config() for group in self.groups]  # type: ignore[operator]
        return {"family": self.family, "groups": groups, "parity": self.parity}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ChannelGroupsPrior:
        groups = config.get("groups")
        if not isinstance(groups, list) or not 1 <= len(groups) <= MAX_GROUPS:
            raise CheckpointError(
                f"fixed-point config: expected 1 to {MAX_GROUPS} groups of channels"
            )
        return cls((FixedChannelGroup.from_config(group) for group in groups), parity_of(config))
