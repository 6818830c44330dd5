"""What ``cgen train prior`` runs: the autoencoder first, then the UNet on its latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CheckpointError, MissingWeightsError, OptionError
from compressai_gen.training.presets import Recipes, Run

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from compressai_gen.training.loop import Task
    from compressai_gen_plugins.diffeic.prior import PriorRecipe
    from compressai_gen_plugins.diffeic.prior_tasks import VaeTask

IDENTITY = ("arguments", "autoencoder", "teacher", "loss")
"""Fields that a run cannot change on its way."""

TAESD = "madebyollin/taesd"
"""A small autoencoder in the latent space of Stable Diffusion 1 and 2, MIT licence."""


class PriorRecipes(Recipes["PriorRecipe"]):
    """The trainings of a prior: ``vae``, ``unet`` and ``scheduler`` as diffusers saves them, in
    ``out/prior``. ``init`` is another prior, whose networks keep their sizes. One stage alone has
    all the minutes for itself; of both, an autoencoder that is finished is left as it is.
    """

    def run(self, run: Run[PriorRecipe]) -> Path:
        """Train one stage or both; mistakes are told before anything is written."""
        recipe, prior = run.recipe, PriorRun(run)
        stage, finished = recipe.stage, (prior.folder / "vae").exists()
        if stage == "unet" and not finished:
            raise CheckpointError(
                f"no autoencoder in {prior.folder / 'vae'}: train it first, with --stage vae"
            )
        task = prior.vae_task() if stage == "vae" or not finished else None
        unet = prior.new_unet() if stage != "vae" else None
        run.remember(IDENTITY)
        if task is not None:
            share = 1 if stage == "vae" else recipe.vae_share
            prior.train(task, recipe.replace(minutes=share * recipe.minutes), "vae")
        if unet is not None:
            share = 1 if stage == "unet" else 1 - recipe.vae_share
            prior.train_unet(unet, share * recipe.minutes)
        return prior.folder

    def usage(self, folder: Path) -> str:
        """What to type to use the result."""
        return f"cgen train diffeic --prior {folder} --data DIR"


class PriorRun:
    """The stages of one run."""

    def __init__(self, run: Run[PriorRecipe]) -> None:
        self.run, self.recipe, self.folder = run, run.recipe, run.out / "prior"

    def vae_task(self) -> VaeTask:
        """The first stage.

        Raises:
            CheckpointError: for arguments that there are not, or if ``init`` has no autoencoder.
            OptionError: for a teacher with other latents.
            MissingWeightsError: there is no teacher, or no loss network.
        """
        from compressai_gen.losses.loading import load_loss
        from compressai_gen_plugins.diffeic.prior_tasks import VaeTask
        from diffusers_codec.models.autoencoders import latent_channels

        recipe = self.recipe
        vae, teacher = self.new_vae(), open_autoencoder(recipe.teacher)
        own, given = latent_channels(vae), latent_channels(teacher)
        if own != given:
            raise OptionError(
                f"teacher {recipe.teacher} has {given} latent channels, the autoencoder to train "
                f"{own}: make them equal"
            )
        loss = load_loss(recipe.loss)
        return VaeTask(vae, teacher, loss, recipe.loss_weight, recipe.latent_weight)

    def train_unet(self, unet: UNet2DConditionModel, minutes: float) -> None:
        """The second stage, on the latents of the first."""
        from compressai_gen_plugins.diffeic.prior_tasks import NoiseTask
        from diffusers_codec.pipelines.diffeic import default_scheduler

        recipe, vae = self.recipe, open_autoencoder(str(self.folder / "vae"))
        task = NoiseTask(unet, vae, recipe.draws, recipe.gamma)
        stage = recipe.replace(minutes=minutes, crop=recipe.unet_crop, batch_size=recipe.unet_batch)
        self.train(task, stage, "unet")
        default_scheduler().save_pretrained(self.folder / "scheduler")

    def new_vae(self) -> Any:
        """A fresh autoencoder, or that of ``init``.

        What an `AutoencoderKL` predicts as variance of its latents is a constant next to zero:
        nothing here trains it, and a draw from the posterior should be its mean.
        """
        import diffusers
        import torch

        from compressai_gen.checkpoints import build

        if self.run.init is not None:
            return open_part(diffusers.AutoModel, self.run.init, "vae")
        kind: Any = getattr(diffusers, self.recipe.autoencoder)
        vae = build(kind, self.recipe.arguments["vae"], self.recipe.autoencoder)
        if self.recipe.autoencoder == "AutoencoderKL":
            last, channels = vae.encoder.conv_out, vae.config.latent_channels
            with torch.no_grad():
                last.weight[channels:] = 0
                last.bias[channels:] = -30
        return vae

    def new_unet(self) -> UNet2DConditionModel:
        """A fresh UNet, or that of ``init``."""
        from diffusers import UNet2DConditionModel

        from compressai_gen.checkpoints import build

        if self.run.init is not None:
            return open_part(UNet2DConditionModel, self.run.init, "unet")
        return build(UNet2DConditionModel, self.recipe.arguments["unet"], "UNet2DConditionModel")

    def train(self, task: Task, recipe: PriorRecipe, part: str) -> None:
        """Train one part and save it."""
        import torch

        trainer = self.run.trainer(task, recipe, self.run.out / part)
        model = trainer.train().cpu()
        if trainer.accelerator.is_main_process:
            dtype = torch.float16 if self.recipe.half else torch.float32
            model.to(dtype).save_pretrained(self.folder / part)
        trainer.accelerator.wait_for_everyone()


def open_autoencoder(source: str) -> Any:
    """An autoencoder of either class.

    Args:
        source: its folder, or a Hub repo id.

    Raises:
        MissingWeightsError: if there is none.
    """
    from diffusers import AutoencoderKL, AutoencoderTiny, AutoModel

    try:
        vae: Any = AutoModel.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise MissingWeightsError(
            f"no autoencoder {source} on this machine, or to be had from the Hub: give the folder "
            f"of one with --teacher, such as a copy of https://huggingface.co/{TAESD}"
        ) from error
    if not isinstance(vae, AutoencoderKL | AutoencoderTiny):
        raise OptionError(
            f"{source} is an {type(vae).__name__}: give an AutoencoderKL or an AutoencoderTiny"
        )
    return vae


def open_part(kind: type[Any], source: str, part: str) -> Any:
    """A network of another prior.

    Raises:
        CheckpointError: if it is not there.
    """
    try:
        return kind.from_pretrained(source, subfolder=part)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no {part} in {source}: give the folder of a prior, which has vae and unet below it"
        ) from error
