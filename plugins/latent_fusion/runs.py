"""What ``cgen train latent-fusion`` runs: the auxiliary encoder first, then D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.training.presets import choose_preset, remember

if TYPE_CHECKING:
    from compressai_gen.codec import ModelCodec
    from compressai_gen.training.loop import Task, Trainer
    from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
    from compressai_gen_plugins.latent_fusion.recipe import FusionRecipe
    from compressai_gen_plugins.latent_fusion.tasks import Base
    from diffusers_codec.models.latent_fusion import LatentFusionModel

IDENTITY = (
    "base",
    "base_quality",
    "arguments",
    "loss",
    "noise_target",
    "quantize_target",
    "diffusion",
    "train_synthesis",
)
"""Fields that a run cannot change on its way."""

DISTORTIONS = ("mse", "ms-ssim")
"""Metrics of base checkpoints that make them distortion-oriented."""


@dataclass(frozen=True)
class FusionRecipes:
    """The presets; the first is the default."""

    presets: Mapping[str, FusionRecipe]

    def preset(self, name: str | None = None) -> FusionRecipe:
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
        """Both stages; goes on where a run in ``out`` stopped.

        Args:
            data: folder of photographs.
            out: folder of the run: ``auxiliary/checkpoint`` is the auxiliary encoder,
                ``checkpoint`` is D.
            preset: name of the preset.
            arguments: of `LatentFusionModel`, where they differ from the preset's.
            init: folder of a D to start from instead of a fresh one.
            seed: of everything random.
            workers: processes that read photographs.
            steps: stop each stage after this many steps even if time is left.
            **changes: fields of `FusionRecipe` that differ from the preset's.

        Returns:
            the folder of D.

        Raises:
            OptionError: for impossible settings, or others than the run in ``out`` was begun with.
            CheckpointError: if there is no such base, or ``init`` is not of its width.
            MissingWeightsError: if the weights of the loss network are not on this machine.
        """
        recipe = self.preset(preset)
        recipe = recipe.replace(arguments={**recipe.arguments, **(arguments or {})}, **changes)
        recipe.check()
        run = FusionRun(recipe, data, out, seed, workers, steps)
        encoder = run.train_auxiliary()
        return run.train_fusion(encoder, init)

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        return f"cgen decompress photo.cgen out.png --tau 0.3 --fusion {folder}"


class FusionRun:
    """One run in one folder.

    Args:
        recipe: what to do.
        data: folder of photographs.
        out: folder of the run.
        seed, workers, steps: as for `FusionRecipes.train`.
    """

    def __init__(
        self,
        recipe: FusionRecipe,
        data: Path,
        out: Path,
        seed: int,
        workers: int,
        steps: int | None,
    ) -> None:
        from accelerate.utils import set_seed

        set_seed(seed)
        self.recipe, self.data, self.out = recipe, data, out
        self.codec = open_base(recipe.base, recipe.base_quality)
        self.seed, self.workers, self.steps = seed, workers, steps
        remember(recipe, out, IDENTITY)

    def base(self) -> Base:
        """The codec as both stages use it."""
        from compressai_gen_plugins.latent_fusion.tasks import Base

        levels = self.codec.quality_range
        return Base(self.codec.model, None if levels is None else round(levels[1]) + 1)

    def loss(self) -> Any:
        """L of both stages: perceptual for a distortion-oriented base, and the other way round."""
        from compressai_gen_plugins.latent_fusion.tasks import PictureLoss

        opposite = "lpips-squeeze" if self.codec.metric in DISTORTIONS else "mse"
        return PictureLoss(self.recipe.loss or opposite, self.recipe.fidelity)

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
        task = AuxiliaryTask(encoder, self.base(), self.loss(), recipe.quantize_target)
        stage = recipe.replace(
            minutes=recipe.auxiliary_share * recipe.minutes,
            learning_rate=recipe.auxiliary_rate,
            muon=0.0,
        )
        trainer = self.trainer(task, stage, folder.parent)
        encoder = trainer.train().cpu()
        if trainer.accelerator.is_main_process:
            arguments = {"base": encoder.base, "arguments": encoder.arguments}
            save_model(encoder, folder, architecture=f"{encoder.base}-aux", arguments=arguments)
        trainer.accelerator.wait_for_everyone()
        return encoder

    def train_fusion(self, encoder: AuxiliaryEncoder | None, init: str | None) -> Path:
        """The second stage; returns the folder of D."""
        from compressai_gen_plugins.latent_fusion.tasks import FusionTask, Trained

        base, folder, recipe = self.base(), self.out / "checkpoint", self.recipe
        g_s = base.model.g_s if recipe.train_synthesis else None
        task = FusionTask(
            Trained(self.fusion(base, init), g_s),
            encoder,
            base,
            self.loss(),
            target_weight=recipe.target_weight,
            noise_target=recipe.noise_target,
            quantize=recipe.quantize_target,
        )
        share = 1 - recipe.auxiliary_share if recipe.diffusion else 1
        trainer = self.trainer(task, recipe.replace(minutes=share * recipe.minutes), self.out)
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
        arguments = constructor_arguments(codec.model)
        folder = self.out / "codec"
        save_model(codec.model.cpu(), folder, architecture=codec.name, arguments=arguments)
        fusion.register_to_config(base_synthesis=synthesis_hash(codec.model).hex())

    def fusion(self, base: Base, init: str | None) -> LatentFusionModel:
        """D, fresh or from ``init``, bound to the base."""
        from compressai_gen.training.data import PhotoCrops
        from compressai_gen_plugins.latent_fusion.tasks import latent_statistics
        from diffusers_codec.models.latent_fusion import LatentFusionModel

        crops = PhotoCrops(self.data, self.recipe.crop, self.seed)
        batches = [crops[i][None] for i in range(64)]
        mean, std = latent_statistics(base, batches)
        bound = {
            "base_fingerprint": self.codec.fingerprint.hex(),
            "base_synthesis": self.codec.synthesis.hex(),
            "base_architecture": self.codec.name,
        }
        if init is None:
            shape = {"latent_channels": len(mean), "rate_points": base.levels}
            fusion = LatentFusionModel(**shape, **self.recipe.arguments, **bound)
            fusion.set_statistics(mean, std)
            return fusion
        fusion = LatentFusionModel.from_pretrained(init)
        if fusion.config.latent_channels != len(mean):
            raise CheckpointError(
                f"{init} is for latents of {fusion.config.latent_channels} channels, those of "
                f"{self.codec.name} have {len(mean)}: start from a D of that width"
            )
        fusion.register_to_config(**bound)
        return fusion

    def trainer(self, task: Task, recipe: FusionRecipe, out: Path) -> Trainer:
        """A trainer of one stage."""
        from compressai_gen.training.loop import Trainer

        return Trainer(
            task,
            recipe,
            self.data,
            out,
            seed=self.seed,
            workers=self.workers,
            max_steps=self.steps,
        )


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
