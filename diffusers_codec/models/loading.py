"""State dicts and device maps of components that wrap a CompressAI model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.errors import CheckpointError
from compressai_gen.models.state_dicts import resize_empty_buffers


def hide_prefix(component: nn.Module, hidden: str) -> None:
    """Leave ``hidden`` out of the names in the component's state dicts, both ways.

    ``model.g_a.0.weight`` is saved as ``g_a.0.weight``, CompressAI's name. On the way back the
    empty tables of a fresh model take the stored sizes, which diffusers does not do by itself.

    Args:
        component: a module whose tensors all lie below ``hidden``.
        hidden: name of the submodule with a dot, "model.".
    """

    def drop(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
        for name in [name for name in state if name.startswith(prefix + hidden)]:
            state[prefix + name[len(prefix + hidden) :]] = state.pop(name)

    def add(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        own = {}
        for name in [name for name in state if name.startswith(prefix)]:
            own[hidden + name[len(prefix) :]] = state.pop(name)
        resize_empty_buffers(module, own)
        state.update({prefix + name: tensor for name, tensor in own.items()})

    component.register_state_dict_post_hook(drop)
    component.register_load_state_dict_pre_hook(add)


def refuse_misfit(loaded: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    """What diffusers' ``_load_pretrained_model`` returned, if every tensor has its place.

    diffusers itself only warns, and leaves random weights where tensors are missing.

    Raises:
        CheckpointError: tensors are missing or superfluous.
    """
    _, missing, unexpected, *_ = loaded
    if missing or unexpected:
        raise CheckpointError(
            f"the weights do not fit {what}: "
            f"{len(missing)} tensors missing {sorted(missing)[:3]}, "
            f"{len(unexpected)} unknown {sorted(unexpected)[:3]}"
        )
    return loaded


def single_device(device_map: Any) -> torch.device:
    """The one device a ``device_map`` names; the CPU, with a warning, if it names no single one."""
    if isinstance(device_map, Mapping) and set(device_map) == {""}:
        device_map = device_map[""]
    if device_map is None:
        return torch.device("cpu")
    try:
        return torch.device(device_map)
    except (RuntimeError, TypeError):
        warnings.warn(
            f"device_map={device_map!r} is ignored: a codec is not split over devices; it is on "
            f"the CPU, move it with .to(device)",
            stacklevel=3,
        )
        return torch.device("cpu")
