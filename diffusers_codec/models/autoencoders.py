"""Autoencoders of latent diffusion, the large and the tiny, behind one pair of verbs."""

from __future__ import annotations

from typing import Any, TypeAlias

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny


def encode(vae: Any, x: Tensor) -> Tensor:
    """Scaled latents, the mean where the autoencoder gives a distribution; float32.

    Args:
        vae: an `AutoencoderKL` or `AutoencoderTiny`, in any dtype.
        x: pictures (B, 3, H, W) in [0, 1], H and W multiples of the downsampling.

    Returns:
        shape (B, C, H/8, W/8) for the usual downsampling of 8; about unit variance.
    """
    encoded = vae.encode((2 * x - 1).to(vae.dtype))
    z: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return (z.float() - shift(vae)) * vae.config.scaling_factor


def decode(vae: Any, z: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), about [0, 1] and not clamped, of scaled latents; float32."""
    z = z.float() / vae.config.scaling_factor + shift(vae)
    x_hat: Tensor = vae.decode(z.to(vae.dtype)).sample
    return (x_hat.float() + 1) / 2


def shift(vae: Any) -> float:
    """What the autoencoder's latents are moved by before they are scaled; most have none."""
    return float(vae.config.get("shift_factor") or 0.0)


def latent_channels(vae: Any) -> int:
    """C of its latents."""
    return int(vae.config.latent_channels)


def downsampling(vae: Any) -> int:
    """Pixels a side of one position of its latents."""
    widths = vae.config.get("encoder_block_out_channels") or vae.config.get("block_out_channels")
    return int(2 ** (len(widths) - 1))
