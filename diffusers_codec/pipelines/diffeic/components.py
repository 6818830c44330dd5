"""Whether the parts of a DiffEIC fit together, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.lfgcm import STRIDE, Lfgcm
from diffusers_codec.models.autoencoders import downsampling, latent_channels


def lfgcm_of(codec: Any) -> Lfgcm:
    """The compression module in a component.

    Raises:
        CheckpointError: it holds another model.
    """
    model = codec.model
    if not isinstance(model, Lfgcm):
        raise CheckpointError(
            f"the codec is a {type(model).__name__}: DiffEIC needs a diffeic-lfgcm"
        )
    return model


def check_components(parts: Mapping[str, Any]) -> None:
    """Whether VAE, UNet, control module and codec speak of the same latents.

    Args:
        parts: the pipeline's components by name.

    Raises:
        CheckpointError: names the two that do not.
    """
    vae, unet, control = parts["vae"], parts["unet"].config, parts["control"].config
    channels = lfgcm_of(parts["codec"]).latent_channels
    if latent_channels(vae) != channels or downsampling(vae) != STRIDE:
        raise CheckpointError(
            f"the VAE has {latent_channels(vae)} latent channels at 1/{downsampling(vae)} of the "
            f"resolution, the codec was trained for {channels} at 1/{STRIDE}: take a VAE of the "
            "same latent space"
        )
    if unet.in_channels != channels:
        raise CheckpointError(
            f"the UNet takes {unet.in_channels} channels, the codec's latents have {channels}"
        )
    own = (list(control.unet_channels), control.cross_attention_dim)
    given = (list(unet.block_out_channels), unet.cross_attention_dim)
    if own != given:
        raise CheckpointError(
            f"the control module was made for a UNet of widths {own[0]} and a prompt of "
            f"{own[1]} numbers, this one has {given[0]} and {given[1]}: train one for it, or "
            "start with DiffEICControlModel.from_unet(unet)"
        )


def check_tile(tile: int) -> int:
    """``tile``, if it is one.

    Raises:
        OptionError: not a multiple of 64, or less than 256.
    """
    if tile < 256 or tile % 64:
        raise OptionError(f"tile {tile}: give a multiple of 64 pixels, at least 256")
    return tile
