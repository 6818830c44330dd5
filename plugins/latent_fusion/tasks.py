"""The two trainings of latent fusion, as tasks of the training loop."""

from __future__ import annotations

import torch
from compressai.models import CompressionModel
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss, load_loss
from compressai_gen.losses.moved import judged
from compressai_gen.losses.rate_distortion import mse
from compressai_gen.models.latents import latent_of, synthesis
from compressai_gen.models.quantisation import round_ste
from compressai_gen.models.variable_rate import VariableRateModel
from compressai_gen.training.loop import Losses, Task
from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
from compressai_gen_plugins.latent_fusion.judge import PatchJudge
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.pipelines.latent_fusion.sampling import default_scheduler


class PictureLoss(nn.Module):
    """L(x, x_hat), with the squared error added to it by a weight.

    Args:
        name: of a registered loss.
        fidelity: weight of the squared error on the 8-bit scale.
    """

    def __init__(self, name: str, fidelity: float) -> None:
        super().__init__()
        self.name, self.fidelity = name, fidelity
        self.loss: Loss = load_loss(name)

    def forward(self, x_hat: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of images (B, 3, H, W): what is minimised, and its parts by name, all of shape (B,)."""
        x_hat = x_hat.float()
        distance, error = judged(self.loss, x_hat, x), mse(x_hat, x)
        return distance + self.fidelity * error, {self.name: distance, "squared error": error}


class Base(nn.Module):
    """The codec that stays as it is: in evaluation mode, without gradients of its own.

    Args:
        model: a CompressAI model, stock or ours.
        levels: its rate points; None for a single rate.
    """

    def __init__(self, model: CompressionModel, levels: int | None) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.levels = levels

    def draw_quality(self, x: Tensor) -> Tensor | None:
        """A rate point for every picture of a batch, shape (B,), if there are several.

        CompressAI's own variable-rate models take one for the whole batch.
        """
        if self.levels is None:
            return None
        if isinstance(self.model, VariableRateModel):
            return torch.rand(len(x), device=x.device) * (self.levels - 1)
        return torch.randint(self.levels, (1,), device=x.device).expand(len(x)).float()

    @torch.no_grad()
    def decoded(self, x: Tensor, quality: Tensor | None) -> Tensor:
        """y_hat as ``g_s`` takes it, in float32 whatever the rest of the training runs in.

        It is the one that files hold, except for models with a serial context (mbt2018,
        cheng2020): their forward pass rounds y itself, their files the difference from its mean,
        which is known only symbol after symbol. Both lie within half a step of y.
        """
        with torch.autocast(x.device.type, enabled=False):
            if quality is None:
                return latent_of(self.model, lambda: self.model(x))
            if isinstance(self.model, VariableRateModel):
                return latent_of(self.model, lambda: self.model(x, quality))
            s = int(quality[0])
            return latent_of(self.model, lambda: self.model(x, stage=2, s=s))

    def quantized(self, y: Tensor, quality: Tensor | None) -> Tensor:
        """A latent of ``g_s`` rounded at its rate point; gradients pass straight through.

        For CompressAI's own variable-rate models the step is 1 / ``Gain``; their means and offsets
        come from z, which a target has not.
        """
        if quality is None:
            return round_ste(y)
        if isinstance(self.model, VariableRateModel):
            steps = self.model.y_gain.inverse_gain(quality)
            return self.model.ungained(round_ste(y / steps), quality)
        gain = self.model.Gain[int(quality[0])]
        return round_ste(y * gain) / gain

    def train(self, mode: bool = True) -> Base:
        """Stays in evaluation mode."""
        return super().train(False)


class AuxiliaryTask(Task):
    """First stage: g_a' through the frozen synthesis, for the picture loss alone (Fig. 2 b).

    Args:
        encoder: what is trained.
        base: the codec.
        loss: of pictures.
        quantize: whether y_bar is rounded on its way.
    """

    model: AuxiliaryEncoder

    def __init__(
        self, encoder: AuxiliaryEncoder, base: Base, loss: PictureLoss, quantize: bool
    ) -> None:
        super().__init__(f"{encoder.base}-aux", encoder)
        self.base, self.loss, self.quantize = base, loss, quantize

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W)."""
        y_bar = self.model(x)
        if self.quantize:
            y_bar = self.base.quantized(y_bar, self.base.draw_quality(x))
        loss, parts = self.loss(synthesis(self.base.model, y_bar), x)
        return Losses(loss.mean(), {"loss": loss, **parts})


class Trained(nn.Module):
    """What the second stage trains.

    Args:
        fusion: D.
        g_s: the synthesis, in the paper's Variant-2; None where it stays as it is.
        judge: of the adversarial term; None without one.
    """

    def __init__(
        self,
        fusion: LatentFusionModel,
        g_s: nn.Module | None = None,
        judge: PatchJudge | None = None,
    ) -> None:
        super().__init__()
        self.fusion, self.judge = fusion, judge
        self.g_s = None if g_s is None else g_s.requires_grad_(True)


class FusionTask(Task):
    """Second stage, equation 2: ``lambda ||y_bar - D||^2 + L(x, g_s(D))``.

    With a judge, how little it believes in the picture is added, and the judge learns beside D.

    The paper noises the decoded latent, ``y_t = sqrt(a) y_hat + sqrt(1 - a) eps``, but samples from
    D's own output, which is near y_bar. And since D is also given y_hat clean, such a y_t tells it
    nothing: the best D ignores it. ``noise_target`` "y_bar" is the usual diffusion, whose input at
    small t does tell something.

    Args:
        trained: D, and in Variant-2 the synthesis of ``base``.
        encoder: of the first stage, frozen; None for Variant-1, where y_t is noise alone and there
            is no target.
        base: the codec.
        loss: L.
        target_weight: lambda, of the mean square over the normalised latent.
        adversarial: weight of the judge's disbelief.
        noise_target: "y_hat" or "y_bar".
        quantize: whether y_bar is rounded.
    """

    model: Trained
    alphas: Tensor

    def __init__(
        self,
        trained: Trained,
        encoder: AuxiliaryEncoder | None,
        base: Base,
        loss: PictureLoss,
        *,
        target_weight: float = 1.0,
        adversarial: float = 0.0,
        noise_target: str = "y_hat",
        quantize: bool = False,
    ) -> None:
        super().__init__("latent fusion", trained)
        self.base, self.loss = base, loss
        self.encoder = None if encoder is None else encoder.requires_grad_(False)
        self.target_weight, self.noise_target = target_weight, noise_target
        self.adversarial = adversarial
        self.quantize = quantize
        self.register_buffer("alphas", default_scheduler().alphas_cumprod, persistent=False)

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W)."""
        fusion = self.model.fusion
        quality = self.base.draw_quality(x)
        y_hat = fusion.normalize(self.base.decoded(x, quality))
        y_bar = self.target(x, quality)
        noisy, fraction = self.noised(y_hat, y_bar)
        clean = fusion(noisy, fraction, y_hat=y_hat, quality=quality)
        x_hat = synthesis(self.base.model, fusion.denormalize(clean))
        loss, columns = self.loss(x_hat, x)
        if y_bar is not None:
            missed = (clean - y_bar).square().mean((1, 2, 3))
            loss = loss + self.target_weight * missed
            columns["target error"] = missed
        if quality is not None:
            columns["quality"] = quality
        total = loss.mean()
        if self.model.judge is not None:
            mistakes = self.model.judge.mistakes(x_hat, x)
            columns["judge"] = mistakes
            loss = loss + self.adversarial * self.model.judge.disbelief(x_hat)
            total = loss.mean() + mistakes.mean()
        return Losses(total, {"loss": loss, **columns})

    def noised(self, y_hat: Tensor, y_bar: Tensor | None) -> tuple[Tensor, Tensor]:
        """y_t and t/T for every picture, at random t."""
        if y_bar is None:
            return torch.randn_like(y_hat), torch.ones(len(y_hat), device=y_hat.device)
        return noised(y_bar if self.noise_target == "y_bar" else y_hat, self.alphas)

    @torch.no_grad()
    def target(self, x: Tensor, quality: Tensor | None) -> Tensor | None:
        """y_bar, normalised."""
        if self.encoder is None:
            return None
        y_bar = self.encoder(x).float()
        if self.quantize:
            y_bar = self.base.quantized(y_bar, quality)
        return self.model.fusion.normalize(y_bar)


def noised(signal: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) with noise of a random t each, and t/T, (B,)."""
    noise = torch.randn_like(signal)
    time = torch.randint(len(alphas), (len(signal),), device=signal.device)
    alpha = alphas[time][:, None, None, None]
    return alpha.sqrt() * signal + (1 - alpha).sqrt() * noise, (time + 1) / len(alphas)


@torch.no_grad()
def latent_statistics(base: Base, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of y_hat per channel, over all rate points, each (C,)."""
    latents = [base.decoded(x, base.draw_quality(x)).transpose(0, 1).flatten(1) for x in batches]
    values = torch.cat(latents, dim=1)
    std = values.std(dim=1)
    return values.mean(dim=1), torch.where(std > 1e-6, std, 1.0)
