"""How DiffEIC is trained.

The paper: AdamW at 1e-4, batches of four crops of 512x512 of LSDIR; lambda_sa = 2, lambda_ne = 1;
300,000 steps at lambda = 1 ("paper"), then 200,000 at 2e-5 with the lambda of each rate, out of 1,
2, 4, 8, 16 ("paper-rate", with ``--init`` and ``--multiplier``). The released code trains in single
precision. The refinement is RDEIC's.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressai_gen.errors import OptionError
from compressai_gen.training.recipe import Recipe
from compressai_gen_plugins.diffeic.runs import DiffEICRecipes


@dataclass(frozen=True, kw_only=True)
class DiffEICRecipe(Recipe):
    """``arguments`` are those of the compression module (`Lfgcm`).

    Attributes:
        prior: folder or Hub repo id with ``vae``, ``unet`` and ``scheduler`` below it: one of
            ``cgen train prior``, or a Stable Diffusion.
        control_ratio: widths of the control module over the UNet's.
        multiplier: lambda, of the rate in bits per pixel.
        alignment: lambda_sa.
        noise: lambda_ne.
        refine: unroll the steps and judge the picture, in the place of the noise estimation.
        loss: a registered loss of the refinement's pictures.
        loss_weight: its weight.
        unrolled: steps of the refinement.
        start: share of the time steps that they cover, and from which the pipeline samples.
        control_only: leave the compression module, so the files, as they are.
        half: save in half precision.
    """

    prior: str | None = None
    control_ratio: float = 0.2
    multiplier: float = 1.0
    alignment: float = 2.0
    noise: float = 1.0
    refine: bool = False
    loss: str = "lpips-squeeze"
    loss_weight: float = 0.5
    unrolled: int = 2
    start: float = 0.3
    control_only: bool = False
    half: bool = False

    def check(self) -> None:
        super().check()
        if self.prior is None:
            raise OptionError(
                "no prior to train on: give a folder with vae, unet and scheduler with --prior, "
                "such as one of `cgen train prior`"
            )
        if self.multiplier < 0 or self.alignment < 0 or self.noise < 0:
            raise OptionError("multiplier, alignment and noise are weights: not negative")
        if self.unrolled < 1 or not 0 < self.start <= 1:
            raise OptionError("unrolled steps: at least 1; start: above 0, at most 1")


_PAPER = DiffEICRecipe(
    batch_size=4,
    crop=512,
    learning_rate=1e-4,
    weight_decay=0.01,
    decay=0.0,
    autocast="no",
    minutes=7 * 24 * 60,
)
_SMALL = DiffEICRecipe(
    arguments={
        "N": 64,
        "groups": [8, 8, 16, 32],
        "stages": [24, 48, 64],
        "features": 24,
        "context": [64, 48],
    },
    batch_size=4,
    crop=256,
    learning_rate=1e-3,
    decay=0.7,
    control_ratio=0.4,
    minutes=120,
)

DIFFEIC = DiffEICRecipes(
    {
        "small": _SMALL,
        "small-refine": _SMALL.replace(refine=True, learning_rate=3e-4, minutes=60),
        "paper": _PAPER,
        "paper-rate": _PAPER.replace(learning_rate=2e-5, minutes=5 * 24 * 60),
        "refine": _PAPER.replace(refine=True, learning_rate=2e-5, crop=256, minutes=2 * 24 * 60),
    }
)
