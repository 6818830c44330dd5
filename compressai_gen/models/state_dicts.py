"""Reading variable-rate models out of state dicts, ours and CompressAI's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from compressai_gen.models.gain import LEVELS
from compressai_gen.models.variable_rate import VariableRateModel

Model = TypeVar("Model", bound=VariableRateModel)


def levels_of(state_dict: Mapping[str, Any]) -> int:
    """Number of rate points in ``state_dict``; the default where it holds no gains."""
    gains = state_dict.get("y_gain.log2_gain")
    return LEVELS if gains is None else gains.size(0)


def hyperprior_arguments(state_dict: Mapping[str, Any]) -> dict[str, int]:
    """Constructor arguments N, M, levels of a hyperprior model."""
    return {
        "N": state_dict["g_a.0.weight"].size(0),
        "M": state_dict["g_a.6.weight"].size(0),
        "levels": levels_of(state_dict),
    }


def load_variable_rate(model: Model, state_dict: Mapping[str, Any]) -> Model:
    """Load a state dict of ours, or one of the fixed-rate model that ``model`` extends.

    A fixed-rate state dict has no gains: they keep their initial values. It has the mask of a
    serial context, which is applied to the weights once: ours is part of the architecture.
    """
    state = without_portable(state_dict)
    mask = state.pop("context_prediction.mask", None)
    if mask is not None:
        weight = "context_prediction.weight"
        state[weight] = state[weight] * mask * model.get_buffer("context_prediction.mask")
    own = model.state_dict()
    for name, tensor in own.items():
        if name.startswith(("y_gain.", "z_gain.")):
            state.setdefault(name, tensor)
    model.load_state_dict(state)
    return model


def without_portable(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float part of a state dict: without the exported fixed-point entropy path."""
    return {k: v for k, v in state_dict.items() if not k.startswith("portable.")}


def resize_empty_buffers(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Give the CDF buffers of a fresh model the shapes they have in ``state_dict``."""
    for name, buffer in list(model.named_buffers()):
        if buffer.numel() == 0 and name in state_dict:
            owner, _, attribute = name.rpartition(".")
            shape = state_dict[name].shape
            setattr(model.get_submodule(owner), attribute, torch.empty(shape, dtype=buffer.dtype))
