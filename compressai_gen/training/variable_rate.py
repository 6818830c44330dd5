"""From a recipe to a checkpoint folder: what ``cgen train <variable-rate model>`` runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressai_gen.errors import CheckpointError, OptionError, UnknownNameError
from compressai_gen.training.recipe import Recipe


@dataclass(frozen=True)
class VariableRateRecipes:
    """The presets of one model; the first is the default.

    This is the object a plugin registers as a training recipe: ``presets`` and :meth:`train`.
    """

    presets: Mapping[str, Recipe]

    def preset(self, name: str | None) -> Recipe:
        """The preset ``name``, or the first.

        Raises:
            UnknownNameError: if there is no such preset.
        """
        if name is None:
            return next(iter(self.presets.values()))
        if name not in self.presets:
            raise UnknownNameError("preset", name, self.presets)
        return self.presets[name]

    def train(
        self,
        data: Path,
        out: Path,
        *,
        preset: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        init: str | None = None,
        seed: int = 0,
        workers: int = 0,
        steps: int | None = None,
        **changes: Any,
    ) -> Path:
        """Train, export to fixed point, save; goes on where a run in ``out`` stopped.

        Args:
            data: folder of photographs.
            out: folder of the run; the result is ``out/checkpoint``.
            preset: name of the preset.
            arguments: constructor arguments of the model that differ from the preset's.
            init: checkpoint (folder or Hub repo id) to start from instead of random weights.
            seed: of initial weights, crops, rate points and noise.
            workers: processes that read photographs.
            steps: stop after this many steps even if time is left.
            **changes: fields of :class:`Recipe` that differ from the preset's.

        Returns:
            the checkpoint folder.

        Raises:
            OptionError: for impossible settings, or others than the run in ``out`` was begun with.
            CheckpointError: if ``init`` is not such a model.
        """
        recipe = self.preset(preset)
        recipe = recipe.replace(arguments={**recipe.arguments, **(arguments or {})}, **changes)
        check(recipe)
        from accelerate.utils import set_seed

        set_seed(seed)
        model = initial_model(recipe, init)
        from compressai_gen.training.loop import Trainer

        trainer = Trainer(model, recipe, data, out, seed=seed, workers=workers, max_steps=steps)
        if trainer.accelerator.is_main_process:
            remember(recipe, out)
        trainer.train()
        folder = out / "checkpoint"
        if trainer.accelerator.is_main_process:
            save(trainer.model, recipe, folder)
        trainer.accelerator.wait_for_everyone()
        return folder


def check(recipe: Recipe) -> None:
    """Refuse settings that could only fail later.

    Raises:
        OptionError: naming the setting, what was given and what is allowed.
    """
    if recipe.crop < 64 or recipe.crop % 64:
        raise OptionError(f"crop {recipe.crop} is not a multiple of 64 pixels, at least 64")
    if recipe.metric == "ms-ssim" and recipe.crop < 192:
        raise OptionError(f"crop {recipe.crop} is too small for ms-ssim: give at least 192")
    if recipe.minutes <= 0 or recipe.batch_size < 1:
        raise OptionError("minutes and batch size must be positive")


def initial_model(recipe: Recipe, init: str | None) -> Any:
    """A fresh model of the recipe, or the one in the checkpoint ``init``, ready to train."""
    from compressai_gen.plugins import registry

    factory = registry("zoo_models").load(recipe.architecture)
    if init is None:
        return factory(**recipe.arguments).train()
    model = factory(checkpoint=init)
    model.add_module("portable", None)  # its integers describe the old weights
    for name, value in recipe.arguments.items():
        asked = tuple(value) if isinstance(value, list) else value
        if getattr(model, name, asked) != asked:
            raise CheckpointError(
                f"{init} has {name}={getattr(model, name)}, the run asks for {name}={asked}"
            )
    return model.train()


def remember(recipe: Recipe, out: Path) -> None:
    """Write ``recipe.json``; refuse to continue a run of another model."""
    file = out / "recipe.json"
    out.mkdir(parents=True, exist_ok=True)
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if file.exists():
        before = json.loads(file.read_text())
        for key in ("architecture", "arguments", "metric", "multipliers"):
            if before[key] != now[key]:
                raise OptionError(
                    f"{out} holds a run with {key}={before[key]}, asked for is {now[key]}: give "
                    "another --out, or the same settings to go on"
                )
    file.write_text(json.dumps(now, indent=2) + "\n")


def save(model: Any, recipe: Recipe, folder: Path) -> None:
    """Export the entropy path to fixed point and write the checkpoint folder."""
    from compressai_gen.checkpoints import save_model

    model = model.cpu().eval()
    model.export()
    save_model(
        model,
        folder,
        architecture=recipe.architecture,
        arguments=dict(recipe.arguments),
        metric=recipe.metric,
    )
