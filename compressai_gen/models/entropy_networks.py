"""The networks that encoder and decoder must compute identically, whatever the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn

from compressai_gen.models.channel_groups import ChannelGroup

Family = Literal["hyperprior", "mean-scale", "checkerboard", "channel-groups"]


@dataclass(frozen=True)
class EntropyNetworks:
    """What encoder and decoder must compute identically.

    Attributes:
        family: how the parameters of y come about.
        h_s: z_hat (B, N, h, w) to parameters at 4 times the resolution.
        entropy_bottleneck: factorised prior of z.
        gaussian_conditional: scale table of y.
        context_prediction: masked convolution over the anchors' y_hat (checkerboard only).
        entropy_parameters: pointwise network over context and h_s (checkerboard only).
        anchor_parity: where the anchors lie: "even" if row + column is even.
        context_first: stock CompressAI concatenates context, h_s; ours h_s, context.
        channel_groups: networks of every group, in coding order (channel groups only).
        z_log2_inverse_gain: shape (L, N), at the integer rate points, or None without gains.
    """

    family: Family
    h_s: nn.Module
    entropy_bottleneck: EntropyBottleneck
    gaussian_conditional: GaussianConditional
    context_prediction: nn.Module | None = None
    entropy_parameters: nn.Module | None = None
    anchor_parity: Literal["even", "odd"] = "even"
    context_first: bool = False
    channel_groups: Sequence[ChannelGroup] = ()
    z_log2_inverse_gain: Tensor | None = None
