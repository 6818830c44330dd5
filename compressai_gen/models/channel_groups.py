"""Scales and means of y group by group, in floating point: what is trained, and exported.

He et al., "ELIC", CVPR 2022 (arXiv 2203.10886): uneven groups of channels, coded one after the
other, each in the two passes of a checkerboard. The anchors have a network of their own, as in
DiffEIC. The fixed-point form is :class:`compressai_gen.entropy.channel_groups.ChannelGroupsPrior`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from compressai_gen.models.quantisation import checkerboard, round_ste


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """Three 1x1 convolutions whose widths fall from ``inputs`` to ``outputs``."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs * 5 // 3, 1),
        nn.GELU(),
        nn.Conv2d(outputs * 5 // 3, outputs * 4 // 3, 1),
        nn.GELU(),
        nn.Conv2d(outputs * 4 // 3, outputs, 1),
    )


class ChannelGroup(nn.Module):
    """The networks of one group.

    Args:
        before: channels of the groups before.
        size: channels of this group.
        side: channels of the output of h_s.
        widths: of the channel context.
    """

    def __init__(self, before: int, size: int, side: int, widths: tuple[int, int]) -> None:
        super().__init__()
        outputs, first, second = 2 * size, *widths
        self.local_context = nn.Conv2d(size, outputs, 5, padding=2)
        self.channel_context: nn.Sequential | None = None
        if before:
            self.channel_context = nn.Sequential(
                nn.Conv2d(before, first, 5, padding=2),
                nn.GELU(),
                nn.Conv2d(first, second, 5, padding=2),
                nn.GELU(),
                nn.Conv2d(second, outputs, 5, padding=2),
            )
        known = side + (outputs if before else 0)
        self.anchors = pointwise(known, outputs)
        self.others = pointwise(known + outputs, outputs)

    def forward(
        self, y: Tensor, y_hat: Tensor, side: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both passes.

        Args:
            y: of this group, shape (B, size, h, w).
            y_hat: of all groups before, shape (B, before, h, w).
            side: output of h_s, shape (B, side, h, w).
            anchors: 1 at the anchors, 0 elsewhere, shape (h, w).

        Returns:
            y_hat, scales_hat and means_hat of this group, each (B, size, h, w).
        """
        known = side
        if self.channel_context is not None:
            known = torch.cat([self.channel_context(y_hat), side], dim=1)
        first = self.anchors(known)
        context = self.local_context(rounded(y, first) * anchors)
        second = self.others(torch.cat([context, known], dim=1))
        scales_hat, means_hat = torch.where(anchors > 0, first, second).float().chunk(2, 1)
        return round_ste(y - means_hat) + means_hat, scales_hat, means_hat


class ChannelGroups(nn.Module):
    """All groups.

    Args:
        sizes: channels of the groups, in coding order.
        side: channels of the output of h_s.
        widths: of the channel contexts.
        parity: where the anchors lie: "odd" if row + column is odd.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        side: int,
        widths: tuple[int, int] = (224, 128),
        parity: Literal["even", "odd"] = "odd",
    ) -> None:
        super().__init__()
        self.sizes, self.parity = tuple(sizes), parity
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        self.groups = nn.ModuleList(
            ChannelGroup(start, size, side, widths)
            for start, size in zip(starts, self.sizes, strict=True)
        )

    def forward(self, y: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y_hat, scales_hat and means_hat, shaped like y, (B, M, h, w).

        y_hat is rounded with straight-through gradients; every context sees it as a decoder will.

        Args:
            y: shape (B, M, h, w).
            side: output of h_s, shape (B, side, h, w).
        """
        anchors = checkerboard(y, self.parity)
        done: list[tuple[Tensor, Tensor, Tensor]] = []
        for group, part in zip(self.groups, y.split(self.sizes, dim=1), strict=True):
            before = torch.cat([d[0] for d in done], dim=1) if done else y[:, :0]
            done.append(group(part, before, side, anchors))
        y_hat, scales_hat, means_hat = (
            torch.cat(parts, dim=1) for parts in zip(*done, strict=True)
        )
        return y_hat, scales_hat, means_hat


def rounded(y: Tensor, params: Tensor) -> Tensor:
    """y rounded around the second half of ``params``."""
    means_hat = params.float().chunk(2, 1)[1]
    return round_ste(y - means_hat) + means_hat
