"""What every training recipe needs: presets by name, and a run that remembers what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from compressai_gen.errors import OptionError, UnknownNameError
from compressai_gen.training.recipe import Recipe

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def choose_preset(presets: Mapping[str, AnyRecipe], name: str | None) -> AnyRecipe:
    """The preset ``name``, or the first.

    Raises:
        UnknownNameError: if there is no such preset.
    """
    if name is None:
        return next(iter(presets.values()))
    if name not in presets:
        raise UnknownNameError("preset", name, presets)
    return presets[name]


def remember(recipe: Recipe, out: Path, identity: Sequence[str]) -> None:
    """Write ``recipe.json``; refuse to continue a run of something else.

    Args:
        recipe: of the run that starts, or goes on.
        out: folder of the run.
        identity: fields that cannot change on the way.

    Raises:
        OptionError: if ``out`` holds a run that differs in one of them.
    """
    file = out / "recipe.json"
    out.mkdir(parents=True, exist_ok=True)
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if file.exists():
        before = json.loads(file.read_text())
        for key in identity:
            if before[key] != now[key]:
                raise OptionError(
                    f"{out} holds a run with {key}={before[key]}, asked for is {now[key]}: give "
                    "another --out, or the same settings to go on"
                )
    file.write_text(json.dumps(now, indent=2) + "\n")
