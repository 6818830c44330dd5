"""``cgen train fusion-blend``: one D that answers like two, by a share that follows the rate.

Between the weights of two trainings of one D (one the start of the other) lies a trade, such as of
LPIPS against NIQE, and what is best differs with the rate. Mixed weights are one D only at one
share; here another D learns to answer, at every rate, like the mixture with that rate's share.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.training.loop import Losses, Task
from compressai_gen.training.presets import Recipes, Run
from compressai_gen.training.recipe import Recipe
from compressai_gen_plugins.latent_fusion.enhancer import existing, load_module
from compressai_gen_plugins.latent_fusion.runs import open_base, usage
from compressai_gen_plugins.latent_fusion.tasks import Base, noised
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.pipelines.latent_fusion.sampling import default_scheduler


@dataclass(frozen=True, kw_only=True)
class BlendRecipe(Recipe):
    """How the blend is trained; ``init`` of the run is the first D.

    Attributes:
        base: of both, a zoo name or a checkpoint folder or Hub repo id.
        other: the second D, a folder or a Hub repo id.
        share_low, share_high: of the second D, at the lowest and at the highest rate point, and
            along a line between them.
    """

    base: str = "cheng2020-anchor-vbr"
    other: str | None = None
    share_low: float = 0.0
    share_high: float = 1.0

    def check(self) -> None:
        super().check()
        for name in ("share_low", "share_high"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise OptionError(f"{name.replace('_', '-')} {value:g}: give 0 to 1")


LEAST_ANSWER = 1e-6
"""Mean square of an answer that counts as one: a fresh D answers with y_hat itself."""

IDENTITY = ("base", "other", "share_low", "share_high")
"""Fields that a run cannot change on its way."""


class BlendRecipes(Recipes[BlendRecipe]):
    """The training of a blend: ``out/checkpoint`` is the D."""

    def run(self, run: Run[BlendRecipe]) -> Path:
        """Train; see :meth:`Recipes.train`."""
        recipe, folder = run.recipe, run.out / "checkpoint"
        if run.init is None or recipe.other is None:
            raise OptionError("a blend is of two: give both modules with --init and --other")
        first, second = (load_module(existing(given), "cpu") for given in (run.init, recipe.other))
        codec = open_base(recipe.base, None)
        base = Base(codec.model, first.config["rate_points"])
        for fusion in (first, second):
            fusion.check_base(codec.fingerprint, codec.synthesis, first.config["latent_channels"])
        task = BlendTask(first, second, base, (recipe.share_low, recipe.share_high))
        run.remember(IDENTITY)
        trainer = run.trainer(task)
        trained = trainer.train().cpu()
        if trainer.accelerator.is_main_process:
            trained.save_pretrained(folder)
        trainer.accelerator.wait_for_everyone()
        return folder

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        return usage(folder)


class BlendTask(Task):
    """Squared distance to the mixture's answer, relative to how far that is from y_hat.

    Args:
        first, second: the two; of one shape, with rate points.
        base: their codec.
        shares: of the second at the lowest and at the highest rate point.

    Raises:
        CheckpointError: for modules of different shapes, or of a codec with a single rate, where
            mixed weights are all there is to be had.
    """

    model: LatentFusionModel
    alphas: Tensor

    def __init__(
        self,
        first: LatentFusionModel,
        second: LatentFusionModel,
        base: Base,
        shares: tuple[float, float],
    ) -> None:
        if settings(first) != settings(second):
            raise CheckpointError("the two modules have different settings: blend two of one kind")
        if first.config["rate_points"] is None:
            raise CheckpointError("a blend follows the rate, but these modules have a single one")
        super().__init__("latent fusion, a blend", copy.deepcopy(first).float())
        self.first, self.second = (end.float().requires_grad_(False) for end in (first, second))
        self.model.load_state_dict(self.mixture(sum(shares) / 2))
        self.base, self.shares = base, shares
        self.register_buffer("alphas", default_scheduler().alphas_cumprod, persistent=False)

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W), all at one rate."""
        fusion = self.model
        quality = self.base.draw_quality(x[:1]).expand(len(x))
        y_hat = fusion.normalize(self.base.decoded(x, quality))
        noisy, fraction = noised(y_hat, self.alphas)
        inputs = {"y_hat": y_hat, "quality": quality}
        with torch.no_grad():
            weights = self.mixture(self.share(quality[0]))
            wanted = functional_call(fusion, weights, (noisy, fraction), inputs)
        missed = (fusion(noisy, fraction, **inputs) - wanted).square().mean((1, 2, 3))
        missed = missed / (wanted - y_hat).square().mean((1, 2, 3)).clamp(min=LEAST_ANSWER)
        return Losses(missed.mean(), {"loss": missed, "quality": quality})

    def share(self, quality: Tensor) -> Tensor:
        """Of the second, at a rate point."""
        low, high = self.shares
        return low + (high - low) * quality / (self.model.config["rate_points"] - 1)

    def mixture(self, share: Tensor | float) -> dict[str, Tensor]:
        """Weights between the two."""
        second = self.second.state_dict()
        return {
            name: torch.lerp(value, second[name], share)
            for name, value in self.first.state_dict().items()
        }


def settings(fusion: LatentFusionModel) -> dict[str, Any]:
    """What a D was made with, and for."""
    return {name: value for name, value in fusion.config.items() if not name.startswith("_")}


FUSION_BLEND = BlendRecipes(
    {
        "small": BlendRecipe(
            batch_size=4, learning_rate=1e-4, decay=0.9, ema=0.99, autocast="no", minutes=20
        )
    }
)
