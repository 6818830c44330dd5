"""The float entropy networks, from the integers of an export: a checkpoint need hold them once.

Weights have 16 bits, so what comes back differs from the trained floats by at most half a step of
a tensor's common power of two. It serves estimates of the rate and further training; files depend
on the integers alone.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compressai_gen.entropy.channel_groups import ChannelGroupsPrior
from compressai_gen.entropy.checkerboard import FixedContext
from compressai_gen.entropy.convolutions import FixedWeights
from compressai_gen.entropy.groups import FixedGroups
from compressai_gen.entropy.network import FixedNetwork, flat
from compressai_gen.entropy.priors import CheckerboardPrior

if TYPE_CHECKING:
    from compressai.models import CompressionModel

Pair = tuple[nn.Module, nn.Module]
"""A float layer and its fixed-point form."""


@torch.no_grad()
def float_weights(model: CompressionModel) -> dict[str, Tensor]:
    """Weights and biases of h_s, context and entropy parameters by their name in the state dict.

    Args:
        model: with its export as ``model.portable``.

    Returns:
        float32 tensors in the shapes of the model's own.
    """
    names = {id(module): name for name, module in model.named_modules()}
    values: dict[str, Tensor] = {}
    for layer, fixed in _pairs(model):
        weight, bias = _real(fixed)
        if isinstance(fixed, FixedContext):
            weight = _spread(weight, fixed)
        values[f"{names[id(layer)]}.weight"] = weight
        if layer.bias is not None:
            values[f"{names[id(layer)]}.bias"] = bias
    return values


@torch.no_grad()
def restore(model: CompressionModel, wanted: set[str]) -> None:
    """Fill the tensors named ``wanted``, some of those of :func:`float_weights`."""
    own = model.state_dict()
    for name, value in float_weights(model).items():
        if name in wanted:
            own[name].copy_(value)


def _pairs(model: CompressionModel) -> list[Pair]:
    """The layers with weights of the entropy path."""
    from compressai_gen.models.latents import entropy_networks

    networks, portable = entropy_networks(model), model.portable
    pairs = [_zipped(networks.h_s, portable.h_s)]
    if isinstance(portable.prior, ChannelGroupsPrior):
        for group, fixed in zip(networks.channel_groups, portable.prior.groups, strict=True):
            pairs += [
                [(group.local_context, fixed.local_context)],  # type: ignore[list-item]
                _zipped(group.anchors, fixed.anchors),  # type: ignore[arg-type]
                _zipped(group.others, fixed.others),  # type: ignore[arg-type]
            ]
            if group.channel_context is not None:
                pairs.append(_zipped(group.channel_context, fixed.channel_context))  # type: ignore
    if isinstance(portable.prior, CheckerboardPrior):
        assert networks.entropy_parameters is not None
        pairs += [
            [(networks.context_prediction, portable.prior.context)],  # type: ignore[list-item]
            _zipped(networks.entropy_parameters, portable.prior.entropy_parameters),
        ]
    with_weights = (FixedWeights, FixedGroups)
    return [pair for pair in chain(*pairs) if isinstance(pair[1], with_weights)]


def _zipped(module: nn.Module, network: FixedNetwork) -> list[Pair]:
    return list(zip(flat(module), network, strict=True))


def _real(fixed: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(fixed, FixedGroups):
        weights, biases = zip(*map(_real, fixed), strict=True)
        return torch.cat(weights), torch.cat(biases)
    assert isinstance(fixed, FixedWeights)
    return fixed.real()


def _spread(taps: Tensor, fixed: FixedContext) -> Tensor:
    """Taps (outputs, inputs, count) at their places in a square kernel."""
    weight = taps.new_zeros(*taps.shape[:2], fixed.kernel, fixed.kernel)
    rows, columns = zip(*fixed.taps, strict=True)
    weight[:, :, rows, columns] = taps
    return weight
