"""The trainings of DiffEIC on a frozen prior, as tasks of the training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss
from compressai_gen.losses.moved import judged
from compressai_gen.losses.rate_distortion import bits_per_pixel, mse
from compressai_gen.models.latents import in_fast_order
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen.training.loop import Losses, Task
from diffusers_codec.models.autoencoders import decode, encode
from diffusers_codec.models.diffeic_control import DiffEICControlModel
from diffusers_codec.models.injection import Injection


class Trained(nn.Module):
    """What is trained: the compression module and the control module."""

    def __init__(self, codec: Lfgcm, control: DiffEICControlModel) -> None:
        super().__init__()
        self.codec, self.control = codec, control

    def learns_to_code(self) -> bool:
        """Whether the compression module is trained, and not the control module alone."""
        return next(self.codec.parameters()).requires_grad

    def aux_loss(self) -> Tensor:
        """The loss of the entropy bottleneck's quantiles."""
        return self.codec.aux_loss()


class DiffEICTask(Task):
    """Equation 13: ``lambda R + w_sa ||z_c - z_0||^2 + w_ne ||eps - unet(z_t, t, z_c)||^2``.

    R is in bits per pixel; the squares are means over numbers. Without the space alignment (w_sa =
    0) nothing asks the codec to say anything, and the rate falls to zero (Fig. 11).

    Args:
        trained: the two modules.
        vae, unet: the prior, frozen; the UNet has the control module's additions attached.
        scheduler: its betas and what the UNet predicts.
        multiplier: lambda.
        alignment: w_sa.
        noise: w_ne.
    """

    model: Trained
    alphas: Tensor

    def __init__(
        self,
        trained: Trained,
        vae: Any,
        unet: Any,
        scheduler: Any,
        *,
        multiplier: float,
        alignment: float = 2.0,
        noise: float = 1.0,
    ) -> None:
        super().__init__("diffeic", trained)
        self.vae, self.unet = vae.requires_grad_(False).eval(), unet.requires_grad_(False).eval()
        self.scheduler, self.injection = scheduler, Injection(unet)
        self.multiplier, self.alignment, self.noise = multiplier, alignment, noise
        self.register_buffer("alphas", scheduler.alphas_cumprod, persistent=False)

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W)."""
        with torch.no_grad():
            z_0 = encode(self.vae, in_fast_order(x))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.model.learns_to_code()):
            out = self.model.codec(x, z_0)
        missed = squared(out["z_c"] - z_0)
        rate = bits_per_pixel(out["likelihoods"], x)
        columns = {"bits_per_pixel": rate, "alignment": missed}
        loss = self.multiplier * rate + self.alignment * missed
        extra, more = self.picture_loss(x, z_0, out["z_c"])
        loss = loss + extra
        total = loss.mean() + self.model.aux_loss()
        return Losses(total, {"loss": loss, **columns, **more})

    def picture_loss(self, x: Tensor, z_0: Tensor, z_c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What else is minimised, and its parts for the log, each of shape (B,)."""
        if self.noise == 0:
            return z_0.new_zeros(len(x)), {}
        time = torch.randint(len(self.alphas), (len(x),), device=x.device)
        noise = torch.randn_like(z_0)
        alpha = self.alphas[time][:, None, None, None]
        noisy = alpha.sqrt() * z_0 + (1 - alpha).sqrt() * noise
        wanted = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * z_0
        error = squared(self.predict(noisy, time, z_c) - wanted)
        return self.noise * error, {"noise error": error}

    def predict(self, noisy: Tensor, time: Tensor, z_c: Tensor) -> Tensor:
        """What the steered UNet says, float32."""
        prompt = self.model.control.prompt.expand(len(noisy), -1, -1)
        self.injection.set(self.model.control(noisy, time, z_c, prompt))
        predicted: Tensor = self.unet(noisy, time, encoder_hidden_states=prompt).sample
        return predicted.float()

    def train(self, mode: bool = True) -> DiffEICTask:
        """The prior stays in evaluation mode."""
        super().train(mode)
        self.vae.eval()
        self.unet.eval()
        return self


class RefineTask(DiffEICTask):
    """A second stage after RDEIC: the few steps of decoding are unrolled, the picture is judged.

    Zhang et al., "RDEIC: Accelerating Diffusion-Based Extreme Image Compression with Relay Residual
    Diffusion", TCSVT 2025 (arXiv 2410.02640): ``||x - x_hat||^2 + 0.5 LPIPS`` in the place of the
    noise estimation, with x_hat decoded from z_c, noised to a share of the time steps, by a few
    deterministic steps. (Its relay residual, another training noise, is not taken over.)

    RDEIC fixes the times of its steps, so a decoder has to take as many. Here they are spread
    evenly below a random time for each picture, so that any number of steps has been learned.

    Args:
        loss: of pictures, added with ``loss_weight`` to the mean square in [-1, 1].
        loss_weight: as above.
        steps: that are unrolled.
        start: share of the time steps below which they begin.
        trained, vae, unet, scheduler, options: as in :class:`DiffEICTask`.
    """

    def __init__(
        self,
        trained: Trained,
        vae: Any,
        unet: Any,
        scheduler: Any,
        *,
        loss: Loss,
        loss_weight: float,
        steps: int,
        start: float,
        **options: float,
    ) -> None:
        super().__init__(trained, vae, unet, scheduler, **options)
        self.name, self.loss, self.loss_weight = "diffeic, refinement", loss, loss_weight
        self.steps, self.start = steps, start

    def picture_loss(self, x: Tensor, z_0: Tensor, z_c: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first = self.start * len(self.alphas) * torch.rand(len(x), device=x.device)
        z, noise = z_c, torch.randn_like(z_c)
        for number in range(self.steps):
            time = (first * (1 - number / self.steps)).long()
            z, noise = self.separated(z, noise, time, z_c)
        x_hat = decode(self.vae, z)
        distance, error = judged(self.loss, x_hat, x), mse(x_hat, x)
        loss = 4 * error / 255**2 + self.loss_weight * distance
        return loss, {"distance": distance, "squared error": error}

    def separated(
        self, z: Tensor, noise: Tensor, time: Tensor, z_c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the steered UNet takes for latent and noise in the sum of both at some times (B,).

        Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 12 without
        new noise, is this again and again.
        """
        alpha = self.alphas[time][:, None, None, None]
        signal, spread = alpha.sqrt(), (1 - alpha).sqrt()
        noisy = signal * z + spread * noise
        predicted = self.predict(noisy, time, z_c)
        if self.scheduler.config.prediction_type == "v_prediction":
            return signal * noisy - spread * predicted, spread * noisy + signal * predicted
        return (noisy - spread * predicted) / signal, predicted


def squared(difference: Tensor) -> Tensor:
    """Mean square of every picture's latent, (B, C, h, w) to (B,)."""
    return difference.float().square().mean((1, 2, 3))
