"""Latent fusion: components, pipeline, the decode-time dial, auxiliary encoders, training."""

from __future__ import annotations

from compressai_gen.hookspecs import (
    Register,
    RegisterEnhancer,
    RegisterRecipe,
    RegisterZooModel,
    hookimpl,
)
from compressai_gen.options import Option

HERE = "compressai_gen_plugins.latent_fusion"
BASES = (
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "bmshj2018-hyperprior-gain-vbr",
    "bmshj2018-hyperprior-vbr",
    "cheng2020-anchor",
    "cheng2020-anchor-checkerboard",
    "cheng2020-anchor-vbr",
    "cheng2020-attn",
    "cheng2020-attn-vbr",
    "elic2022-chandelier",
    "elic2022-official",
    "hific",
    "mbt2018",
    "mbt2018-mean",
    "mbt2018-mean-gain-vbr",
    "mbt2018-mean-vbr",
    "mbt2018-vbr",
)
"""Codecs that have an auxiliary encoder by name, ``<base>-aux``."""
EMBEDDED_BASE = "cheng2020-anchor-vbr"
"""The one whose auxiliary encoder and D ship with the package."""


@hookimpl
def register_components(register: Register) -> None:
    register(
        "LatentFusionModel",
        "diffusers_codec.models.latent_fusion:LatentFusionModel",
        help="D of latent fusion: from the decoded latent to a more realistic or faithful one",
    )


@hookimpl
def register_pipelines(register: Register) -> None:
    register(
        "LatentFusionPipeline",
        "diffusers_codec.pipelines.latent_fusion.pipeline_latent_fusion:LatentFusionPipeline",
        help="a CompressAI model with a distortion-perception dial",
    )


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    for base in BASES:
        register(
            f"{base}-aux",
            f"{HERE}.auxiliary:FACTORIES.{base.replace('-', '_')}",
            architecture=f"{HERE}.auxiliary:AuxiliaryEncoder",
            qualities=None,
            checkpoint=f"{HERE}:checkpoint/auxiliary" if base == EMBEDDED_BASE else None,
            help=f"auxiliary encoder of {base}, for training latent fusion only",
        )


@hookimpl
def register_enhancers(register: RegisterEnhancer) -> None:
    ends = "0: as realistic as can be; 1: the codec's own picture, as without --tau and --steps"
    tau = Option("tau", float, 0.0, ends, 0, 1)
    steps = Option("steps", int, 10, "sampling steps; 1, 2 and 4 are faster", 1, 1000)
    fusion = Option(
        "fusion", str, None, "folder or Hub id of a fusion module", verbs=("decompress",)
    )
    register(
        "latent-fusion",
        f"{HERE}.enhancer:LatentFusionEnhancer",
        codecs=("*",),
        options=(tau, steps, fusion),
        help="a dial between distortion and perception",
    )


@hookimpl
def register_recipes(register: RegisterRecipe) -> None:
    def option(name: str, kind: type, default: object, help: str) -> Option:
        return Option(name, kind, default, help, verbs=("train",))

    options = (
        option("base", str, EMBEDDED_BASE, "zoo name or checkpoint of the codec"),
        option("base_quality", float, None, "which weights of a zoo model with one set a quality"),
        option("loss", str, None, "registered loss; by default perceptual for a distortion base"),
        option("fidelity", float, 0.0, "weight of the squared error beside a perceptual loss"),
        option("adversarial", float, 0.0, "weight of a judge of patches that learns beside D"),
        option("target_weight", float, 1.0, "lambda of equation 2"),
        option("noise_target", str, "y_hat", "what is noised in training, y_hat or y_bar"),
        option("quantize_target", bool, False, "round the auxiliary encoder's latent"),
    )
    told = "D, from a codec's decoded latents to more realistic ones"
    register("latent-fusion", f"{HERE}.recipe:LATENT_FUSION", options=options, help=told)
    blend = (
        options[0],
        option("other", str, None, "second of two fusion modules; --init is the first"),
        option("share_low", float, 0.0, "of the second, at the lowest rate"),
        option("share_high", float, 1.0, "of the second, at the highest rate"),
    )
    told = "one D that answers like two of them, mixed by the rate"
    register("fusion-blend", f"{HERE}.blend:FUSION_BLEND", options=blend, help=told)


@hookimpl
def register_commands(register: Register) -> None:
    register(
        "fusion-study",
        f"{HERE}.study",
        help="the latent fusion paper's checks: steps, dial, seeds, feature residual",
    )
