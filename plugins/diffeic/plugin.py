"""DiffEIC: its compression module as a zoo model."""

from __future__ import annotations

from compressai_gen.hookspecs import RegisterZooModel, hookimpl


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    register(
        "diffeic-lfgcm",
        "compressai_gen.models.lfgcm:diffeic_lfgcm",
        architecture="compressai_gen.models.lfgcm:Lfgcm",
        qualities=(1, 5),
        help="picture and latent of a VAE to DiffEIC's content variable",
    )
