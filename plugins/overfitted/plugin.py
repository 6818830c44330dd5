"""Overfitted codecs as zoo models and as codecs of files."""

from __future__ import annotations

from compressai_gen.hookspecs import Register, RegisterCodec, RegisterZooModel, hookimpl
from compressai_gen.options import Option

HERE = "compressai_gen_plugins.overfitted"
ENCODING = ("compress",)
OPTIONS = (
    Option("preset", str, "fast", "draft, fast, medium or slow", verbs=ENCODING),
    Option("loss", str, None, "registered loss to fit; default: as published", verbs=ENCODING),
    Option(
        *("state", str, None, "folder from which interrupted fits go on"),
        verbs=ENCODING,
        recorded=False,
    ),
)

COOL_CHIC_OPTIONS = (
    *OPTIONS,
    Option(
        "same_lambda", bool, False, "leave lambda alone for losses other than mse", verbs=ENCODING
    ),
)


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    register(
        "nif",
        f"{HERE}.nif_model:nif",
        architecture=f"{HERE}.nif_model:NifModel",
        qualities=(1, 7),
        help="a network fitted to each picture; nothing to fetch",
    )
    for version, most in ((1, 4), (2, 5)):
        register(
            f"cool-chic-v{version}",
            f"{HERE}.coolchic_model:cool_chic_v{version}",
            architecture=f"{HERE}.coolchic_model:CoolChicV{version}",
            qualities=(1, most),
            help="latents and networks fitted to each picture; nothing to fetch",
        )


@hookimpl
def register_codecs(register: RegisterCodec) -> None:
    register(
        "nif",
        f"{HERE}.codec:NifCodec",
        options=OPTIONS,
        help="the weights of a small network that draws the picture",
    )
    for version in (1, 2):
        register(
            f"cool-chic-v{version}",
            f"{HERE}.codec:CoolChicV{version}Codec",
            options=COOL_CHIC_OPTIONS,
            help="grids of latents with the small networks that read them",
        )


@hookimpl
def register_commands(register: Register) -> None:
    register(
        "loss-study",
        f"{HERE}.study",
        help="the loss paper's study: architecture x loss x rate on your pictures",
    )
