"""DiffEIC: its compression module as a zoo model, its control module as a component."""

from __future__ import annotations

from compressai_gen.hookspecs import (
    Register,
    RegisterCodec,
    RegisterRecipe,
    RegisterZooModel,
    hookimpl,
)
from compressai_gen.options import Option

ARCHITECTURE = "diffeic-lfgcm"
DECODING = ("decompress",)
SCHEDULERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm-solver": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""Stock schedulers by what ``--scheduler`` calls them."""


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    register(
        ARCHITECTURE,
        "compressai_gen.models.lfgcm_zoo:diffeic_lfgcm",
        architecture="compressai_gen.models.lfgcm:Lfgcm",
        qualities=(1, 5),
        checkpoint="compressai_gen_plugins.diffeic:checkpoint",
        help="picture and latent of a VAE to DiffEIC's content variable",
    )


@hookimpl
def register_components(register: Register) -> None:
    register(
        "DiffEICControlModel",
        "diffusers_codec.models.diffeic_control:DiffEICControlModel",
        help="steers a stock UNet towards a content variable",
    )


@hookimpl
def register_pipelines(register: Register) -> None:
    register(
        "DiffEICPipeline",
        "diffusers_codec.pipelines.diffeic.pipeline_diffeic:DiffEICPipeline",
        help="extreme compression with a latent diffusion prior",
    )


@hookimpl
def register_converters(register: Register) -> None:
    register(
        "diffeic",
        "compressai_gen_plugins.diffeic.convert:convert_diffeic",
        help="lc.ckpt of the released DiffEIC, with a Stable Diffusion 2.1-base",
    )


@hookimpl
def register_recipes(register: RegisterRecipe) -> None:
    def option(name: str, kind: type, default: object, help: str) -> Option:
        return Option(name, kind, default, help, verbs=("train",))

    register(
        "prior",
        "compressai_gen_plugins.diffeic.prior:PRIOR",
        options=(
            option("teacher", str, "madebyollin/taesd", "autoencoder whose latents to learn"),
            option("loss", str, "lpips-squeeze", "registered loss of the autoencoder's pictures"),
            option("stage", str, "both", "vae, unet or both"),
            option("half", bool, False, "save in half precision"),
        ),
        help="a latent diffusion model in Stable Diffusion's latent space",
    )
    register(
        "diffeic",
        "compressai_gen_plugins.diffeic.recipe:DIFFEIC",
        options=(
            option("prior", str, None, "folder with vae, unet and scheduler, as of `train prior`"),
            option("multiplier", float, 1.0, "lambda, of the rate in bits per pixel"),
            option("alignment", float, 2.0, "weight of the space alignment"),
            option("noise", float, 1.0, "weight of the noise estimation"),
            option("control_ratio", float, 0.2, "widths of the control module over the UNet's"),
            option("unrolled", int, 2, "steps of the presets for refinement"),
            option("start", float, 0.3, "share of the time steps that these cover"),
            option("control_only", bool, False, "leave the compression module as it is"),
            option("half", bool, False, "save in half precision"),
        ),
        help="compression module and control module on a frozen prior",
    )


@hookimpl
def register_codecs(register: RegisterCodec) -> None:
    names = ", ".join(SCHEDULERS)
    register(
        "diffeic",
        "compressai_gen_plugins.diffeic.codec:DiffEICCodec",
        options=(
            Option("steps", int, 50, "passes of the diffusion model; 0: none", 0, 1000),
            Option("start", float, None, "share of the noise to start from", 0, 1, DECODING),
            Option("scheduler", str, None, f"one of {names}", verbs=DECODING),
            Option(
                "tile", int, None, "side of tiles, pixels, to save memory", 256, 65536, DECODING
            ),
        ),
        architectures=(ARCHITECTURE,),
        help="extreme compression with a latent diffusion prior",
    )
