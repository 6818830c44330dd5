"""Tensors of a published checkpoint under our names, by a table of modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Modules = dict[str, str]
"""Their name of a module, or of a tensor, to ours."""


def pairs(theirs: str, inside: Iterable[object], ours: str, places: Iterable[object]) -> Modules:
    """``theirs.i`` to ``ours.k`` for the i and k that stand at the same place."""
    return {f"{theirs}.{i}": f"{ours}.{k}" for i, k in zip(inside, places, strict=True)}


def renamed(state: Mapping[str, Tensor], modules: Modules) -> dict[str, Tensor]:
    """Every tensor under our name for its module; one that is not known keeps its name."""
    names = {}
    for name, tensor in state.items():
        parts = name.split(".")
        heads = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        known = next((head for head in heads if head in modules), None)
        names[name if known is None else modules[known] + name[len(known) :]] = tensor
    return names
