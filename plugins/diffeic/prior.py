"""How the latent diffusion prior is trained.

DiffEIC takes Stable Diffusion 2.1 as it is. This prior is for where that cannot be had, or is too
large: an autoencoder that learns Stable Diffusion's latent space from a teacher, and a UNet trained
on its latents from scratch. So the numbers are ours: "small" is for hours on a CPU and fits, with a
codec beside it, into 30 MB of half precision; "large" is for a day on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressai_gen.errors import OptionError
from compressai_gen.training.recipe import Recipe
from compressai_gen_plugins.diffeic.prior_runs import TAESD, PriorRecipes

PARTS = ("vae", "unet")
STAGES = ("both", *PARTS)
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


@dataclass(frozen=True, kw_only=True)
class PriorRecipe(Recipe):
    """Both stages: the autoencoder, then the UNet.

    ``arguments`` hold a dictionary for each, ``vae`` and ``unet`` (`UNet2DConditionModel`).
    ``batch_size`` and ``crop`` are those of the first stage.

    Attributes:
        autoencoder: class of the first, "AutoencoderKL" or "AutoencoderTiny".
        teacher: folder or Hub repo id of an autoencoder in the latent space to learn.
        loss: a registered loss, of the autoencoder's pictures.
        loss_weight: its weight beside the mean absolute error.
        latent_weight: weight of the mean square by which the latents miss the teacher's.
        vae_share: share of the minutes that the autoencoder gets where both are trained.
        unet_crop: side of the UNet's crops, pixels: its attention should see maps nearly as large
            as those of whole pictures.
        unet_batch: crops a step and process of the UNet.
        draws: latents a step for each crop of the UNet, its own and earlier ones.
        gamma: bound of the signal-to-noise ratio in the weights of noise levels.
        stage: "vae", "unet" or "both".
        half: save in half precision.
    """

    autoencoder: str = "AutoencoderKL"
    teacher: str = TAESD
    loss: str = "lpips-squeeze"
    loss_weight: float = 1.0
    latent_weight: float = 1.0
    vae_share: float = 0.4
    unet_crop: int = 384
    unet_batch: int = 4
    draws: int = 4
    gamma: float = 5.0
    stage: str = "both"
    half: bool = False

    def with_arguments(self, changes: Mapping[str, Any]) -> PriorRecipe:
        """With some constructor arguments changed, as ``{"unet": {"layers_per_block": 2}}``.

        Raises:
            OptionError: for anything but dictionaries for ``vae`` and ``unet``.
        """
        if not all(name in PARTS and isinstance(value, dict) for name, value in changes.items()):
            raise OptionError(
                f"arguments {dict(changes)}: give a dictionary for vae or unet, such as "
                "--argument \"unet={'layers_per_block': 2}\""
            )
        merged = {part: {**self.arguments[part], **changes.get(part, {})} for part in PARTS}
        return self.replace(arguments=merged)

    def check(self) -> None:
        super().check()
        if self.unet_crop < 64 or self.unet_crop % 64:
            raise OptionError(
                f"UNet crop {self.unet_crop} is not a multiple of 64 pixels, at least 64"
            )
        if self.autoencoder not in AUTOENCODERS:
            raise OptionError(
                f"autoencoder {self.autoencoder!r}: give one of {', '.join(AUTOENCODERS)}"
            )
        if self.stage not in STAGES:
            raise OptionError(f"stage {self.stage!r}: give one of {', '.join(STAGES)}")
        if not 0 < self.vae_share < 1:
            raise OptionError(f"vae share {self.vae_share}: between 0 and 1")
        if self.unet_batch < 1 or self.draws < 1:
            raise OptionError("UNet batch size and draws must be positive")


def autoencoder(widths: tuple[int, ...], layers: int) -> dict[str, Any]:
    """Arguments of an `AutoencoderKL` with 8x downsampling, whose latents are scaled as they are.

    No attention: its cost grows with the fourth power of a picture's side.
    """
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": layers,
        "norm_num_groups": 16,
        "mid_block_add_attention": False,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.0,
    }


def tiny_autoencoder(width: int) -> dict[str, Any]:
    """Arguments of an `AutoencoderTiny` with 8x downsampling, TAESD's but for the width.

    Convolutions without normalisation: on one core a step of four crops takes 2.0 s at width 48,
    one of an `AutoencoderKL` of widths 32 to 128 took 4.5 s.
    """
    return {
        "encoder_block_out_channels": (width,) * 4,
        "decoder_block_out_channels": (width,) * 4,
    }


def denoiser(widths: tuple[int, ...], layers: int, attention: int) -> dict[str, Any]:
    """Arguments of a `UNet2DConditionModel` with attention at the ``attention`` lowest resolutions.

    The context is one token of 64 numbers.
    """
    plain = len(widths) - attention
    return {
        "sample_size": 48,
        "block_out_channels": widths,
        "down_block_types": ("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * attention,
        "up_block_types": ("CrossAttnUpBlock2D",) * attention + ("UpBlock2D",) * plain,
        "layers_per_block": layers,
        "norm_num_groups": 16,
        "attention_head_dim": 4,  # diffusers' name for the number of heads
        "cross_attention_dim": 64,
        "use_linear_projection": True,
    }


_SMALL = PriorRecipe(
    arguments={
        "vae": tiny_autoencoder(48),
        "unet": denoiser((96, 128, 144), 1, 1),
    },
    autoencoder="AutoencoderTiny",
    batch_size=4,
    unet_batch=1,
    unet_crop=256,
    draws=16,
    learning_rate=1e-3,
    muon=2e-3,
    decay=0.7,
    minutes=120,
)
_LARGE = PriorRecipe(
    arguments={
        "vae": autoencoder((64, 128, 256, 256), 2),
        "unet": denoiser((128, 192, 320), 2, 2),
    },
    batch_size=32,
    unet_batch=32,
    learning_rate=3e-4,
    muon=1e-3,
    ema=0.9999,
    minutes=24 * 60,
)

PRIOR = PriorRecipes({"small": _SMALL, "large": _LARGE})
