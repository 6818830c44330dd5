"""What ``cgen train diffeic`` runs: compression module and control module on a frozen prior."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CheckpointError
from compressai_gen.training.presets import Recipes, Run

if TYPE_CHECKING:
    from compressai_gen_plugins.diffeic.recipe import DiffEICRecipe
    from compressai_gen_plugins.diffeic.tasks import DiffEICTask, Trained

IDENTITY = ("arguments", "prior", "control_ratio", "refine")
"""Fields that a run cannot change on its way."""

SPREAD = 20
"""Factor of the last weights before a fresh latent, which rounding would else make all zeros."""

SHARD = "10MB"
"""Largest file of a checkpoint in half precision: it is to travel with a package."""


class DiffEICRecipes(Recipes["DiffEICRecipe"]):
    """The trainings of compression module and control module; the result is the pipeline in
    ``out/checkpoint``. ``init`` is another pipeline, whose two modules keep their sizes.
    """

    def run(self, run: Run[DiffEICRecipe]) -> Path:
        """Train, export to fixed point, save."""
        recipe = run.recipe
        prior = open_prior(str(recipe.prior))
        trained = start(recipe, prior["unet"], run.init)
        trained.codec.requires_grad_(not recipe.control_only)
        task = make_task(recipe, trained, prior)
        trainer = run.trainer(task)
        if trainer.accelerator.is_main_process:
            run.remember(IDENTITY)
        trainer.train()
        folder = run.out / "checkpoint"
        if trainer.accelerator.is_main_process:
            task.injection.detach()
            save(assembled(trained, prior, recipe), folder, recipe.half)
        trainer.accelerator.wait_for_everyone()
        return folder

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        return f"cgen compress photo.png --codec diffeic --checkpoint {folder}"


def open_prior(source: str) -> dict[str, Any]:
    """VAE, UNet and scheduler of a folder or Hub repo id.

    Raises:
        CheckpointError: if one of them is not there.
    """
    from diffusers import AutoModel, DDPMScheduler

    try:
        return {
            "vae": AutoModel.from_pretrained(source, subfolder="vae"),
            "unet": AutoModel.from_pretrained(source, subfolder="unet"),
            "scheduler": DDPMScheduler.from_pretrained(source, subfolder="scheduler"),
        }
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"no prior in {source} ({reason}): give a folder with vae, unet and scheduler"
        ) from None


def start(recipe: DiffEICRecipe, unet: Any, init: str | None) -> Trained:
    """Fresh modules, or those of another pipeline.

    Raises:
        CheckpointError: if ``init`` has none, or for arguments that there are not.
    """
    import torch

    from compressai_gen.checkpoints import build
    from compressai_gen.models.lfgcm import Lfgcm
    from compressai_gen_plugins.diffeic.plugin import ARCHITECTURE
    from compressai_gen_plugins.diffeic.tasks import Trained
    from diffusers_codec.models.compression_model import CompressionModelComponent
    from diffusers_codec.models.diffeic_control import DiffEICControlModel

    if init is None:
        codec, control = (
            build(Lfgcm, recipe.arguments, ARCHITECTURE),
            DiffEICControlModel.from_unet(unet, recipe.control_ratio),
        )
        with torch.no_grad():
            codec.g_a.conv_out.weight.mul_(SPREAD)
        return Trained(codec, control)
    try:
        component = CompressionModelComponent.from_pretrained(init, subfolder="codec")
        control = DiffEICControlModel.from_pretrained(init, subfolder="control")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"no DiffEIC pipeline in {init}: {reason}") from None
    component.model.add_module("portable", None)  # its integers describe the old weights
    control.register_to_config(saved_fingerprint=None)
    return Trained(component.model, control).train()  # loaded for use, where nothing is noised


def make_task(recipe: DiffEICRecipe, trained: Trained, prior: Mapping[str, Any]) -> DiffEICTask:
    """Equation 13, or the refinement."""
    from compressai_gen.losses.loading import load_loss
    from compressai_gen_plugins.diffeic.tasks import DiffEICTask, RefineTask

    parts = (trained, prior["vae"], prior["unet"], prior["scheduler"])
    weights = {
        "multiplier": recipe.multiplier,
        "alignment": recipe.alignment,
        "noise": recipe.noise,
    }
    if not recipe.refine:
        return DiffEICTask(*parts, **weights)
    return RefineTask(
        *parts,
        loss=load_loss(recipe.loss),
        loss_weight=recipe.loss_weight,
        steps=recipe.unrolled,
        start=recipe.start,
        **weights,
    )


def assembled(trained: Trained, prior: Mapping[str, Any], recipe: DiffEICRecipe) -> Any:
    """The pipeline of all parts, its entropy path in fixed point; it samples as it was refined."""
    from diffusers import DDIMScheduler

    from diffusers_codec.models.compression_model import CompressionModelComponent
    from diffusers_codec.pipelines.diffeic import DiffEICPipeline

    codec, control = trained.codec.cpu().eval(), trained.control.cpu().eval()
    codec.export()
    scheduler = prior["scheduler"]
    if recipe.refine:
        scheduler = DDIMScheduler.from_config(scheduler.config, clip_sample=False)
    return DiffEICPipeline(
        prior["vae"].cpu(),
        prior["unet"].cpu(),
        control,
        CompressionModelComponent.from_compressai(codec),
        scheduler,
        start=recipe.start if recipe.refine else 1.0,
    )


def save(pipeline: Any, folder: Path, half: bool) -> None:
    """Write the pipeline, by request in half precision: then its codec holds integers once."""
    import torch

    from compressai_gen.checkpoints import constructor_arguments, save_model
    from compressai_gen_plugins.diffeic.plugin import ARCHITECTURE

    if not half:
        pipeline.save_pretrained(folder)
    else:
        pipeline.to(torch.float16).save_pretrained(folder, max_shard_size=SHARD)
        model = pipeline.codec.model
        arguments = constructor_arguments(model)
        save_model(
            model, folder / "codec", architecture=ARCHITECTURE, arguments=arguments, half=True
        )
