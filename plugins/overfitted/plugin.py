"""Overfitted codecs as zoo models and as codecs of files."""

from __future__ import annotations

from compressai_gen.hookspecs import RegisterCodec, RegisterZooModel, hookimpl
from compressai_gen.options import Option

HERE = "compressai_gen_plugins.overfitted"
PRESETS = "draft, fast, medium or slow (as published)"


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    register(
        "nif",
        f"{HERE}.nif_model:nif",
        architecture=f"{HERE}.nif_model:NifModel",
        qualities=(1, 7),
        help="a network fitted to each picture; nothing to fetch",
    )


@hookimpl
def register_codecs(register: RegisterCodec) -> None:
    encoding = ("compress",)
    register(
        "nif",
        f"{HERE}.codec:NifCodec",
        options=(
            Option("preset", str, "fast", PRESETS, verbs=encoding),
            Option("loss", str, "lc-ssim", "registered loss that is fitted", verbs=encoding),
            Option("state", str, None, "file that an interrupted fit goes on from", verbs=encoding),
        ),
        help="implicit representation: the weights of a small network",
    )
