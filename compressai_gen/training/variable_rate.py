"""From a recipe to a checkpoint folder: what ``cgen train <variable-rate model>`` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressai_gen.errors import CheckpointError
from compressai_gen.training.presets import choose_preset, remember
from compressai_gen.training.recipe import VariableRateRecipe

IDENTITY = ("architecture", "arguments", "metric", "multipliers")
"""Fields that a run cannot change on its way."""


@dataclass(frozen=True)
class VariableRateRecipes:
    """The presets of one model; the first is the default.

    This is the object a plugin registers as a training recipe: ``presets`` and :meth:`train`.
    """

    presets: Mapping[str, VariableRateRecipe]

    def preset(self, name: str | None = None) -> VariableRateRecipe:
        """The preset ``name``, or the first.

        Raises:
            UnknownNameError: if there is no such preset.
        """
        return choose_preset(self.presets, name)

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
            **changes: fields of :class:`VariableRateRecipe` that differ from the preset's.

        Returns:
            the checkpoint folder.

        Raises:
            OptionError: for impossible settings, or others than the run in ``out`` was begun with.
            CheckpointError: if ``init`` is not such a model.
        """
        recipe = self.preset(preset)
        recipe = recipe.replace(arguments={**recipe.arguments, **(arguments or {})}, **changes)
        recipe.check()
        from accelerate.utils import set_seed

        from compressai_gen.training.loop import Trainer
        from compressai_gen.training.rate_distortion import RateDistortionTask

        set_seed(seed)
        task = RateDistortionTask(initial_model(recipe, init), recipe)
        trainer = Trainer(task, recipe, data, out, seed=seed, workers=workers, max_steps=steps)
        if trainer.accelerator.is_main_process:
            remember(recipe, out, IDENTITY)
        trainer.train()
        folder = out / "checkpoint"
        if trainer.accelerator.is_main_process:
            save(trainer.model, recipe, folder)
        trainer.accelerator.wait_for_everyone()
        return folder

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        return f"cgen compress photo.png --checkpoint {folder}"


def initial_model(recipe: VariableRateRecipe, init: str | None) -> Any:
    """A fresh model of the recipe, or one that starts from the checkpoint ``init``.

    The checkpoint may be narrower or wider than the recipe: see `warm_start`.

    Raises:
        CheckpointError: if ``init`` is of another architecture, or has other rate points.
    """
    from compressai_gen.plugins import registry
    from compressai_gen.training.warm_start import warm_start

    factory = registry("zoo_models").load(recipe.architecture)
    if init is None:
        return factory(**recipe.arguments).train()
    trained = factory(checkpoint=init)
    trained.add_module("portable", None)  # its integers describe the old weights
    own = {name: getattr(trained, name, value) for name, value in recipe.arguments.items()}
    asked = {n: tuple(v) if isinstance(v, list) else v for n, v in recipe.arguments.items()}
    if own == asked:
        return trained.train()
    model = factory(**recipe.arguments)
    if model.levels != trained.levels:
        raise CheckpointError(
            f"{init} has {trained.levels} rate points, the run asks for {model.levels}"
        )
    warm_start(model, trained)
    return model.train()


def save(model: Any, recipe: VariableRateRecipe, folder: Path) -> None:
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
