"""The two trainings of the latent diffusion prior, as tasks of the training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compressai_gen.losses.loading import Loss
from compressai_gen.losses.moved import judged
from compressai_gen.models.latents import in_fast_order
from compressai_gen.training.loop import Losses, Task
from diffusers_codec.models.autoencoders import decode, encode
from diffusers_codec.pipelines.diffeic import default_scheduler

RECENT = 512
"""Latents that are kept to be used again."""


def no_prompt(unet: Any) -> Tensor:
    """What the UNet's cross-attention sees at all times: one token of zeros, (1, 1, context)."""
    return torch.zeros(1, 1, unet.config.cross_attention_dim)


class VaeTask(Task):
    """First stage: the teacher's latents, and pictures from them.

    ``|x - g_s(z)| + w_p L(x, g_s(z)) + w_z ||z - teacher(x)||^2``, where the decoder sees the
    autoencoder's own latent for half of the pictures and the teacher's for the other half: files
    and latents of one decode with the other.

    Args:
        vae: an `AutoencoderKL`, which is trained.
        teacher: an autoencoder of either class whose latent space is to be met; frozen.
        loss: L.
        loss_weight: w_p.
        latent_weight: w_z, of the mean square over scaled latents.
    """

    model: Any

    def __init__(
        self,
        vae: Any,
        teacher: Any,
        loss: Loss,
        loss_weight: float,
        latent_weight: float,
    ) -> None:
        super().__init__("prior, autoencoder", vae)
        self.teacher = teacher.requires_grad_(False)
        self.loss = loss
        self.loss_weight, self.latent_weight = loss_weight, latent_weight

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W)."""
        x = in_fast_order(x)
        with torch.no_grad():
            target = encode(self.teacher, x)
        z = encode(self.model, x)
        own = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        x_hat = decode(self.model, torch.where(own, z, target))
        missed = (z - target).square().mean((1, 2, 3))
        error = (x_hat - x).abs().mean((1, 2, 3))
        distance = judged(self.loss, x_hat, x)
        loss = error + self.loss_weight * distance + self.latent_weight * missed
        columns = {"loss": loss, "error": error, "distance": distance, "latent error": missed}
        return Losses(loss.mean(), columns)


class NoiseTask(Task):
    """Second stage: the noise in noised latents, ``w_t ||eps - unet(z_t, t)||^2``.

    ``w_t = min(SNR, gamma) / SNR`` (Hang et al. 2023, equation 5 for eps): the last traces of noise
    are the hardest to tell from texture, and without it most of a small network goes into them.

    A latent is used several times, each time with other noise at another level, over the next
    steps: to encode a crop costs more than to denoise its latent. The levels of a batch are evenly
    spaced from a random start, each by itself uniform.

    Args:
        unet: a `UNet2DConditionModel`, which is trained.
        vae: of either class; gives the latents; frozen.
        draws: latents a step for each crop: its own, and earlier ones at random.
        gamma: bound of the signal-to-noise ratio; infinite for equal weights.
    """

    model: Any
    alphas: Tensor
    prompt: Tensor

    def __init__(self, unet: Any, vae: Any, draws: int, gamma: float) -> None:
        super().__init__("prior, noise", unet)
        self.vae = vae.requires_grad_(False).eval()
        self.draws, self.gamma = draws, gamma
        self.recent: Tensor | None = None
        self.register_buffer("alphas", default_scheduler().alphas_cumprod, persistent=False)
        self.register_buffer("prompt", no_prompt(unet), persistent=False)

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W)."""
        z = self.latents(x)
        time = self.times(len(z), x.device)
        alpha = self.alphas[time][:, None, None, None]
        noise = torch.randn_like(z)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        predicted = self.model(noisy, time, self.prompt.expand(len(z), -1, -1)).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        loss = self.weights(time) * error
        return Losses(loss.mean(), {"loss": loss, "noise error": error})

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """The latents of crops (B, 3, H, W) and of earlier ones, (draws * B, C, H/8, W/8)."""
        z = encode(self.vae, in_fast_order(x))
        self.recent = z if self.recent is None else torch.cat((z, self.recent))[:RECENT]
        others = torch.randint(len(self.recent), ((self.draws - 1) * len(z),), device=x.device)
        return torch.cat((z, self.recent[others]))

    def times(self, count: int, device: torch.device) -> Tensor:
        """Time steps of a batch, (count,), whole numbers from 0 to T - 1."""
        share = torch.rand(1, device=device) + torch.arange(count, device=device) / count
        return (share % 1 * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)

    def weights(self, time: Tensor) -> Tensor:
        """w_t of time steps (B,)."""
        ratio = self.alphas[time] / (1 - self.alphas[time])
        return ratio.clamp(max=self.gamma) / ratio
