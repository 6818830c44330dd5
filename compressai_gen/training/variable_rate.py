"""From a recipe to a checkpoint folder: what ``cgen train <variable-rate model>`` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressai_gen.errors import CheckpointError
from compressai_gen.training.presets import Recipes, Run
from compressai_gen.training.recipe import VariableRateRecipe

IDENTITY = ("architecture", "arguments", "metric", "multipliers", "same_lambda")
"""Fields that a run cannot change on its way."""


class VariableRateRecipes(Recipes[VariableRateRecipe]):
    """The trainings of one model; the result is ``out/checkpoint``.

    ``init`` may be narrower or wider than the recipe: see `warm_start`.
    """

    def run(self, run: Run[VariableRateRecipe]) -> Path:
        """Train, export to fixed point, save."""
        from compressai_gen.training.rate_distortion import RateDistortionTask

        recipe = run.recipe
        trainer = run.trainer(RateDistortionTask(initial_model(recipe, run.init), recipe))
        if trainer.accelerator.is_main_process:
            run.remember(IDENTITY)
        trainer.train()
        folder = run.out / "checkpoint"
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
        CheckpointError: if ``init`` is of another architecture, or has other rate points, or if the
            architecture does not take the recipe's arguments.
    """
    from compressai_gen.checkpoints import build_model
    from compressai_gen.plugins import registry
    from compressai_gen.training.warm_start import warm_start

    if init is None:
        return build_model(recipe.architecture, recipe.arguments).train()
    trained = registry("zoo_models").load(recipe.architecture)(checkpoint=init)
    trained.add_module("portable", None)  # its integers describe the old weights
    own = {name: getattr(trained, name, value) for name, value in recipe.arguments.items()}
    asked = {n: tuple(v) if isinstance(v, list) else v for n, v in recipe.arguments.items()}
    if own == asked:
        return trained.train()
    model: Any = build_model(recipe.architecture, recipe.arguments)
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
