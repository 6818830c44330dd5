"""HiFiC as a zoo model, and readers of the published HiFiC, MS-ILLM and No-GAN checkpoints."""

from __future__ import annotations

from compressai_gen.hookspecs import Register, RegisterZooModel, hookimpl

CONVERT = "compressai_gen_plugins.hific.convert"


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    register(
        "hific",
        "compressai_gen.models.hific:hific",
        architecture="compressai_gen.models.hific:Hific",
        qualities=(1, 3),
        help="a generator behind a mean-scale hyperprior; converted weights",
    )


@hookimpl
def register_converters(register: Register) -> None:
    register(
        "hific", f"{CONVERT}:convert_hific", help="hific_{low,med,hi}.pt of Justin Tan's HiFiC"
    )
    register(
        "ms-illm",
        f"{CONVERT}:convert_ms_illm",
        help="{msillm,noganms}_target_*bpp.ckpt of NeuralCompression",
    )
