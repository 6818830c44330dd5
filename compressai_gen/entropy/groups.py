"""Grouped convolutions in fixed point: plain ones side by side, each with a shift of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressai_gen.entropy.convolutions import (
    FixedConv2d,
    FixedConvTranspose2d,
    FixedWeights,
    masked_weight,
)
from compressai_gen.errors import CheckpointError

PARTS: dict[str, Any] = {kind.kind: kind for kind in (FixedConv2d, FixedConvTranspose2d)}
MAX_GROUPS = 256


class FixedGroups(nn.ModuleList):
    """Each of the parts takes its share of the channels, in their order.

    Args:
        parts: convolutions of the same kind and shape.
    """

    kind: ClassVar[str] = "groups"

    def __init__(self, parts: Iterable[FixedWeights]) -> None:
        super().__init__(parts)

    def forward(self, x: Tensor) -> Tensor:
        """(inputs, H, W) to (outputs, H', W')."""
        shares = x.chunk(len(self))
        return torch.cat([part(share) for part, share in zip(self, shares, strict=True)])

    def channels(self) -> tuple[int, int]:
        """Channels that go in and that come out."""
        inputs, outputs = self[0].channels()  # type: ignore[operator]
        return len(self) * inputs, len(self) * outputs

    def config(self) -> dict[str, Any]:
        parts = [{"kind": part.kind, **part.config()} for part in self]  # type: ignore
        return {"parts": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedGroups:
        parts = config.get("parts")
        if not isinstance(parts, list) or not 2 <= len(parts) <= MAX_GROUPS:
            raise CheckpointError(f"fixed-point config: expected 2 to {MAX_GROUPS} groups")
        groups = cls(_part(part) for part in parts)
        if len({(type(part), part.weight.shape) for part in groups}) != 1:
            raise CheckpointError("fixed-point config: the groups of a convolution are not alike")
        return groups

    @classmethod
    def from_float(cls, conv: nn.Conv2d | nn.ConvTranspose2d) -> FixedGroups:
        """The parts of a grouped convolution; a mask is applied to its weights."""
        fixed = FixedConvTranspose2d if isinstance(conv, nn.ConvTranspose2d) else FixedConv2d
        weights = masked_weight(conv).chunk(conv.groups)
        no_bias = (None,) * conv.groups
        biases = no_bias if conv.bias is None else conv.bias.chunk(conv.groups)
        pairs = zip(weights, biases, strict=True)
        return cls(fixed.from_float(_plain(conv, weight, bias)) for weight, bias in pairs)


def _part(config: Any) -> FixedWeights:
    kind = config.get("kind") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in PARTS:
        raise CheckpointError(f"fixed-point config: {kind!r} cannot be a group of a convolution")
    return PARTS[kind].from_config(config)


def _plain(conv: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """One group of a convolution as a convolution."""
    options = {
        name: getattr(conv, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    if isinstance(conv, nn.ConvTranspose2d):
        options["output_padding"] = conv.output_padding
    kind = nn.ConvTranspose2d if isinstance(conv, nn.ConvTranspose2d) else nn.Conv2d
    sizes = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    plain = kind(*sizes, bias=bias is not None, device="meta", **options)
    plain.weight = nn.Parameter(weight.detach())
    plain.bias = None if bias is None else nn.Parameter(bias.detach())
    return plain
