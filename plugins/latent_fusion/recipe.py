"""How latent fusion is trained.

The paper: AdamW at a constant 5e-5, batches of 32 crops of 256x256, DDPM noise, ten DDIM steps. It
does not say for how long, with which lambda, which LPIPS, how wide the network is, or whether the
second term of equation 2 is LPIPS alone; those are our choices in both presets.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressai_gen.errors import OptionError
from compressai_gen.training.recipe import Recipe
from compressai_gen_plugins.latent_fusion.runs import FusionRecipes

NOISE_TARGETS = ("y_hat", "y_bar")


@dataclass(frozen=True, kw_only=True)
class FusionRecipe(Recipe):
    """Both stages: the auxiliary encoder, then D. ``arguments`` are those of `LatentFusionModel`.

    Attributes:
        base: zoo name of a codec with trained weights, or a checkpoint folder or Hub repo id.
        base_quality: which weights, where a zoo model has one set a quality.
        loss: L of equation 2, a registered loss; None for "lpips-squeeze" on a base that was
            trained for distortion, "mse" on one that was not.
        fidelity: weight of the squared error (8-bit scale) that is added to a perceptual L, in both
            stages; the paper has none in the first and does not say in the second.
        target_weight: lambda of equation 2, on the normalised latent.
        adversarial: weight of an adversarial term, which is not the paper's; 0 for none.
        noise_target: what is noised in training: "y_hat", as the paper says, or "y_bar", as usual.
        quantize_target: round y_bar, for a variable-rate base at the picture's rate point.
        auxiliary_share: share of the minutes that the first stage gets.
        auxiliary_rate: learning rate of the first stage, which starts from trained weights.
        diffusion: False for the paper's Variant-1, without auxiliary encoder, target and noise
            levels: D turns pure noise and y_hat into a latent at once (sample it in one step).
        train_synthesis: True for its Variant-2, which trains g_s too, and so gives up the codec.
    """

    base: str = "cheng2020-anchor-vbr"
    base_quality: float | None = None
    loss: str | None = None
    fidelity: float = 0.0
    target_weight: float = 1.0
    adversarial: float = 0.0
    noise_target: str = "y_hat"
    quantize_target: bool = False
    auxiliary_share: float = 0.2
    auxiliary_rate: float = 5e-5
    diffusion: bool = True
    train_synthesis: bool = False

    def check(self) -> None:
        super().check()
        if self.noise_target not in NOISE_TARGETS:
            raise OptionError(
                f"noise target {self.noise_target!r}: give one of {', '.join(NOISE_TARGETS)}"
            )
        if self.adversarial < 0:
            raise OptionError(f"adversarial weight {self.adversarial}: 0 for none, or more")
        if not 0 < self.auxiliary_share < 1:
            raise OptionError(f"auxiliary share {self.auxiliary_share}: between 0 and 1")


_PAPER = FusionRecipe(
    batch_size=32, learning_rate=5e-5, weight_decay=0.01, decay=0.0, ema=0.9999, minutes=48 * 60
)
_SMALL = FusionRecipe(
    arguments={"width": 128, "units": 3},
    batch_size=4,
    learning_rate=1e-3,
    muon=2e-3,
    decay=0.7,
    fidelity=0.0003,
    target_weight=0.003,
    auxiliary_share=0.1,
    auxiliary_rate=2e-4,
    minutes=90,
)

LATENT_FUSION = FusionRecipes(
    {
        "small": _SMALL,
        "paper": _PAPER,
        "variant-1": _SMALL.replace(diffusion=False),
        "variant-2": _SMALL.replace(train_synthesis=True),
    }
)
