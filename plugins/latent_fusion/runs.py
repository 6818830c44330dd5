"""What ``cgen train latent-fusion`` runs: the auxiliary encoder first, then D."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.training.presets import Recipes, Run

if TYPE_CHECKING:
    from compressai_gen.codec import ModelCodec
    from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
    from compressai_gen_plugins.latent_fusion.recipe import FusionRecipe
    from compressai_gen_plugins.latent_fusion.tasks import Base, PictureLoss
    from diffusers_codec.models.latent_fusion import LatentFusionModel

IDENTITY = (
    "base",
    "base_quality",
    "arguments",
    "loss",
    "adversarial",
    "noise_target",
    "quantize_target",
    "diffusion",
    "train_synthesis",
)
"""Fields that a run cannot change on its way."""

DISTORTIONS = ("mse", "ms-ssim")
"""Metrics of base checkpoints that make them distortion-oriented."""


class FusionRecipes(Recipes["FusionRecipe"]):
    """The trainings of latent fusion: ``out/auxiliary/checkpoint`` is the auxiliary encoder,
    ``out/checkpoint`` is D. ``init`` is a D to start from.
    """

    def run(self, run: Run[FusionRecipe]) -> Path:
        """Both stages; D is made first, so that mistakes are told before anything is written."""
        stages = FusionRun(run)
        fusion = stages.fusion()
        run.remember(IDENTITY)
        return stages.train_fusion(fusion, stages.train_auxiliary())

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        return usage(folder)


class FusionRun:
    """The stages of one run.

    Raises:
        OptionError: the first stage is wanted for an architecture without auxiliary encoder.
    """

    def __init__(self, run: Run[FusionRecipe]) -> None:
        from compressai_gen.checkpoints import architecture_names, metric_of

        self.run, self.recipe, self.out = run, run.recipe, run.out
        self.codec = open_base(run.recipe.base, run.recipe.base_quality)
        encoder = f"{self.codec.name}-aux"
        if run.recipe.diffusion and encoder not in architecture_names():
            raise OptionError(
                f"there is no {encoder}: the plugin that brings {self.codec.name} must register "
                "it; without one there is --preset variant-1"
            )
        metric = metric_of(self.codec.model, self.codec.metric)
        self.loss = picture_loss(run.recipe, metric)

    def base(self) -> Base:
        """The codec as both stages use it."""
        from compressai_gen_plugins.latent_fusion.tasks import Base

        levels = self.codec.quality_range
        return Base(self.codec.model, None if levels is None else round(levels[1]) + 1)

    def train_auxiliary(self) -> AuxiliaryEncoder | None:
        """The first stage, unless it is finished, or not wanted."""
        from compressai_gen.checkpoints import load_model, save_model
        from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
        from compressai_gen_plugins.latent_fusion.tasks import AuxiliaryTask

        recipe, folder = self.recipe, self.out / "auxiliary" / "checkpoint"
        if not recipe.diffusion:
            return None
        if folder.exists():
            return load_model(folder)
        encoder = AuxiliaryEncoder.from_base(self.codec.model)
        task = AuxiliaryTask(encoder, self.base(), self.loss, recipe.quantize_target)
        stage = recipe.replace(
            minutes=recipe.auxiliary_share * recipe.minutes,
            learning_rate=recipe.auxiliary_rate,
            muon=0.0,
        )
        trainer = self.run.trainer(task, stage, folder.parent)
        encoder = trainer.train().cpu()
        if trainer.accelerator.is_main_process:
            arguments = {"base": encoder.base, "arguments": encoder.arguments}
            save_model(encoder, folder, architecture=f"{encoder.base}-aux", arguments=arguments)
        trainer.accelerator.wait_for_everyone()
        return encoder

    def train_fusion(self, fusion: LatentFusionModel, encoder: AuxiliaryEncoder | None) -> Path:
        """The second stage; returns the folder of D."""
        from compressai_gen_plugins.latent_fusion.judge import PatchJudge
        from compressai_gen_plugins.latent_fusion.tasks import FusionTask, Trained

        base, folder, recipe = self.base(), self.out / "checkpoint", self.recipe
        g_s = base.model.g_s if recipe.train_synthesis else None
        judge = PatchJudge() if recipe.adversarial else None
        task = FusionTask(
            Trained(fusion, g_s, judge),
            encoder,
            base,
            self.loss,
            target_weight=recipe.target_weight,
            adversarial=recipe.adversarial,
            noise_target=recipe.noise_target,
            quantize=recipe.quantize_target,
        )
        share = 1 - recipe.auxiliary_share if recipe.diffusion else 1
        stage = recipe.replace(minutes=share * recipe.minutes, adam=("judge",) if judge else ())
        trainer = self.run.trainer(task, stage)
        trained = trainer.train().cpu()
        if trainer.accelerator.is_main_process:
            if recipe.train_synthesis:
                self.save_codec(trained.fusion)
            trained.fusion.save_pretrained(folder)
        trainer.accelerator.wait_for_everyone()
        return folder

    def save_codec(self, fusion: LatentFusionModel) -> None:
        """Variant-2: the codec with its new synthesis, to which D now belongs, in ``out/codec``."""
        from compressai_gen.checkpoints import constructor_arguments, save_model
        from compressai_gen.codec.model_codec import synthesis_hash

        codec = self.codec
        save_model(
            codec.model.cpu(),
            self.out / "codec",
            architecture=codec.name,
            arguments=constructor_arguments(codec.model),
            quality=None if codec.quality_range or codec.quality is None else int(codec.quality),
            metric=codec.metric,
        )
        fusion.register_to_config(base_synthesis=synthesis_hash(codec.model).hex())

    def fusion(self) -> LatentFusionModel:
        """D, fresh or from the run's ``init``, bound to the base.

        Raises:
            OptionError: arguments that D does not take, or that ``init`` was not made with.
            CheckpointError: ``init`` is none, or for other latents or rates.
        """
        from compressai_gen.checkpoints import build
        from compressai_gen.training.data import PhotoCrops
        from compressai_gen_plugins.latent_fusion.tasks import latent_statistics
        from diffusers_codec.models.latent_fusion import LatentFusionModel

        base, arguments = self.base(), self.recipe.arguments
        crops = PhotoCrops(self.run.data, self.recipe.crop, self.run.seed)
        mean, std = latent_statistics(base, [crops[i][None] for i in range(64)])
        shape = {"latent_channels": len(mean), "rate_points": base.levels}
        check_arguments(arguments)
        if self.run.init is None:
            fusion = build(LatentFusionModel, {**shape, **arguments}, "D")
            fusion.set_statistics(mean, std)
        else:
            fusion = start(self.run.init, shape, self.run.arguments)
        fusion.register_to_config(
            base_fingerprint=self.codec.fingerprint.hex(),
            base_synthesis=self.codec.synthesis.hex(),
            base_architecture=self.codec.name,
        )
        return fusion


def picture_loss(recipe: FusionRecipe, metric: str) -> PictureLoss:
    """L of both stages: perceptual for a distortion-oriented base, and the other way round.

    Args:
        recipe: may name another.
        metric: what the base was trained for.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
    """
    from compressai_gen_plugins.latent_fusion.tasks import PictureLoss

    opposite = "lpips-squeeze" if metric in DISTORTIONS else "mse"
    return PictureLoss(recipe.loss or opposite, recipe.fidelity)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse ``--argument`` for what D does not take, or for what its base decides.

    Raises:
        OptionError: with those that there are.
    """
    from diffusers_codec.models.latent_fusion import LatentFusionModel

    known = [
        name
        for name in signature(LatentFusionModel).parameters
        if name not in ("latent_channels", "rate_points") and not name.startswith("base_")
    ]
    for name in arguments:
        if name not in known:
            raise OptionError(f"argument {name}: D takes {', '.join(known)}")


def start(
    init: str, shape: Mapping[str, int | None], arguments: Mapping[str, Any]
) -> LatentFusionModel:
    """The D of ``--init``, if it is of the shape that the base asks for.

    Raises:
        CheckpointError: if it is not, or there is none.
        OptionError: for arguments that it was not made with.
    """
    from compressai_gen_plugins.latent_fusion.enhancer import existing, load_module

    fusion = load_module(existing(init), "cpu")
    for name, wanted in {**shape, **arguments}.items():
        own = fusion.config[name]
        if own != wanted:
            told = f"{init} has {name} {own}, not {wanted}"
            if name in arguments:
                raise OptionError(f"{told}: leave out --argument {name}, or --init")
            raise CheckpointError(f"{told} as this base: start from a D that was made for such one")
    return fusion


def usage(folder: Path) -> str:
    """What to type to try a D."""
    return f"cgen decompress photo.cgen out.png --tau 0.3 --fusion {folder}"


def open_base(base: str, quality: float | None) -> ModelCodec:
    """The base codec: a zoo name with weights on this machine, or a checkpoint.

    Raises:
        CheckpointError, UnknownNameError: if there is none.
        OptionError: if it is a file codec without a latent.
    """
    from compressai_gen.checkpoints import architecture_names
    from compressai_gen.codec import ModelCodec, open_codec

    named = base in architecture_names()
    codec = open_codec(base if named else None, checkpoint=None if named else base, quality=quality)
    if not isinstance(codec, ModelCodec):
        raise OptionError(f"base {base} is not a CompressAI model: it has no latent to work on")
    return codec
