"""What a caller of a sampling pipeline sees of its steps, as with diffusers' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from compressai_gen.errors import OptionError

LATENTS = ("latents",)
"""The tensors that a callback can ask for."""

OnStepEnd: TypeAlias = Callable[[Any, int, Any, dict[str, Tensor]], dict[str, Tensor] | None]
"""Pipeline, number of the step, timestep and tensors by name; what is returned replaces them."""

StepCallback: TypeAlias = Callable[[int, Any, Tensor], Tensor | None]
"""Number of the step, timestep and noisy latent; a tensor returned replaces it."""

Progress: TypeAlias = Callable[[Any], Iterable[Any]]
"""Hands on what it is given, and shows how far that is."""


def check_tensor_inputs(names: Sequence[str]) -> None:
    """Refuse a callback's wish for tensors that our pipelines do not have.

    Raises:
        OptionError: another name than "latents", or no list.
    """
    if not isinstance(names, (list, tuple)) or any(name not in LATENTS for name in names):
        raise OptionError(
            f"callback_on_step_end_tensor_inputs {names!r}: give {list(LATENTS)}, or an empty list"
        )


def step_callback(
    pipeline: Any, callback: OnStepEnd | None, names: Sequence[str]
) -> StepCallback | None:
    """A caller's ``callback_on_step_end`` as sampling calls it; None without one.

    Args:
        pipeline: what the callback gets first.
        callback: the caller's.
        names: the caller's ``callback_on_step_end_tensor_inputs``.

    Raises:
        OptionError: as for `check_tensor_inputs`.
    """
    check_tensor_inputs(names)
    if callback is None:
        return None

    def step_end(number: int, timestep: Any, latents: Tensor) -> Tensor | None:
        changed = callback(pipeline, number, timestep, dict.fromkeys(names, latents)) or {}
        return changed.get("latents")

    return step_end
