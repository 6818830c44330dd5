"""Sampling of a fused latent: a stock scheduler's steps, or the paper's equation 4."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, SupportsFloat, TypeAlias

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from compressai_gen.errors import OptionError
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.noise import check_seed, counter_noise
from diffusers_codec.pipelines.callbacks import Progress, StepCallback
from diffusers_codec.pipelines.schedulers import (
    check_prediction,
    check_steps,
    ends_clean,
    step_noise,
)

MODES = ("cached", "paper")
STEPS = 10  # the paper's

Step: TypeAlias = Callable[[Tensor, Any, Tensor], Tensor]
"""Clean latent, timestep and noisy latent to the next noisy latent."""


def default_scheduler() -> DDIMScheduler:
    """DDIM as in the paper, from pure noise at t = T to alpha_0 = 1, with the betas of training.

    The paper names neither the betas nor the T of its training. These are the linear ones of DDPM
    with T = 1000, which it cites: 0.6 % of the signal are left at T, where sampling starts from
    noise alone; with the scaled-linear betas of latent diffusion it would be 6.8 %. At the other
    end the cosine schedule amplifies twice as much what equation 4 does to the implied noise.
    Trailing steps start at T. Nothing is clipped: latents do not end at 1.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="sample",
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
        thresholding=False,
    )


@torch.no_grad()
def sample(
    fusion: LatentFusionModel,
    scheduler: Any,
    y_hat: Tensor,
    *,
    seed: int,
    quality: float | None = None,
    num_inference_steps: int = STEPS,
    mode: str = "cached",
    tau: float = 0.0,
    callback: StepCallback | None = None,
    progress: Progress = iter,
) -> Tensor:
    """The fused latent, between D's (tau = 0) and the decoded one (tau = 1).

    "cached" runs the scheduler's own steps, which do not depend on tau, and mixes afterwards; so
    keep its result at tau = 0 and `mix` it with any tau. "paper" is equation 4, which mixes in
    every step. Because alpha_0 = 1 both end at ``(1 - tau^2) D + tau^2 y_hat``; they differ in the
    last input of D only.

    DDIM of diffusers ends at alpha_0 = 1 for numbers of steps that divide T (1, 2, 4, 5, 8, 10,
    20, ...), and at alpha_1 for some others (6, 7, ...), where a trace of noise is left.

    Args:
        fusion: D.
        scheduler: of diffusers, with ``prediction_type="sample"``; its timesteps are set here.
        y_hat: as ``g_s`` takes it, shape (B, C, h, w).
        seed: of the start noise and of a stochastic scheduler's steps.
        quality: rate point, for a D with ``rate_points``.
        num_inference_steps: at least 1.
        mode: "cached" or "paper".
        tau: 0 to 1.
        callback: called after each time step, with the noisy latent normalised.
        progress: gets the time steps, of which Heun and others have more than steps.

    Returns:
        Latent as ``g_s`` takes it, shape of ``y_hat``, float32; ``y_hat`` itself at tau = 1, where
        D is not run.

    Raises:
        OptionError: whatever is out of range, before anything is computed.
        CheckpointError: for a latent of another width.
    """
    tau = check_tau(tau)
    check_scheduler(scheduler, mode, num_inference_steps)
    check_seed(seed)
    if tau == 1:
        return y_hat
    known = fusion.normalize(y_hat)
    condition = fusion.condition(known, quality)
    scheduler.set_timesteps(num_inference_steps, device=y_hat.device)
    if mode == "paper":
        step: Step = partial(paper_step, scheduler, known, tau)
    else:
        step = scheduler_step(scheduler, seed)
    noisy = counter_noise(seed, y_hat.shape).to(y_hat.device) * scheduler.init_noise_sigma
    for number, timestep in enumerate(progress(scheduler.timesteps)):
        seen = scheduler.scale_model_input(noisy, timestep)
        clean = fusion(seen, fraction(timestep, scheduler), condition, quality=quality)
        noisy = step(clean, timestep, noisy)
        changed = None if callback is None else callback(number, timestep, noisy)
        noisy = noisy if changed is None else changed
    fused = fusion.denormalize(noisy)
    return fused if mode == "paper" else mix(fused, y_hat, tau)


def mix(y_tilde: Tensor, y_hat: Tensor, tau: float) -> Tensor:
    """``(1 - tau^2) y_tilde + tau^2 y_hat``, the weights of equation 4; ``y_hat`` itself at 1.

    Raises:
        OptionError: for a tau outside [0, 1].
    """
    weight = check_tau(tau) ** 2
    return y_hat if tau == 1 else (1 - weight) * y_tilde + weight * y_hat


def fraction(timestep: Any, scheduler: Any) -> Tensor:
    """t/T in (0, 1], shape (1,); diffusers counts t from 0, and some schedulers in reals."""
    steps = scheduler.config["num_train_timesteps"]
    return ((torch.as_tensor(timestep).float() + 1) / steps).clamp(1 / steps, 1).reshape(1)


def scheduler_step(scheduler: Any, seed: int) -> Step:
    """The scheduler's own step; noise that it adds comes from the seed, the same everywhere."""
    extra = step_noise(scheduler, seed)

    def step(clean: Tensor, timestep: Any, noisy: Tensor) -> Tensor:
        return scheduler.step(clean, timestep, noisy, **extra).prev_sample

    return step


def paper_step(
    scheduler: DDIMScheduler, y_hat: Tensor, tau: float, clean: Tensor, timestep: Any, noisy: Tensor
) -> Tensor:
    """Equation 4, all latents normalised; at tau = 0 equation 3, which is DDIM with eta = 0.

    The neighbouring timestep is the one `DDIMScheduler.step` takes.
    """
    previous = (
        int(timestep) - scheduler.config["num_train_timesteps"] // scheduler.num_inference_steps
    )
    alpha = float(scheduler.alphas_cumprod[int(timestep)])
    ended = previous < 0
    alpha_next = float(
        scheduler.final_alpha_cumprod if ended else scheduler.alphas_cumprod[previous]
    )
    noise = (noisy - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
    fused = mix(clean, y_hat, tau)
    return math.sqrt(alpha_next) * fused + (1 - tau**2) * math.sqrt(1 - alpha_next) * noise


def check_tau(tau: float) -> float:
    """``tau``, if it is one.

    Raises:
        OptionError: not a number in [0, 1].
    """
    try:
        number = float(tau) if isinstance(tau, SupportsFloat) else math.nan
    except (TypeError, ValueError, RuntimeError):  # several numbers, none or a complex one
        number = math.nan
    if not 0 <= number <= 1:
        told = " ".join(repr(tau).split())
        raise OptionError(
            f"tau {told:.60}: give a number from 0 (fused) to 1 (the base codec's own)"
        )
    return number


def check_scheduler(scheduler: Any, mode: str, num_inference_steps: int) -> None:
    """Whether D can be sampled so.

    Raises:
        OptionError: another mode; a number of steps out of range; a scheduler that does not take
            predictions of the clean latent, or clips them; equation 4 with another one than DDIM.
    """
    name = type(scheduler).__name__
    if mode not in MODES:
        raise OptionError(f"mode {mode!r}: give one of {', '.join(MODES)}")
    steps = check_steps(scheduler, num_inference_steps)
    meant = type(scheduler).from_config(
        scheduler.config, prediction_type="sample", clip_sample=False, thresholding=False
    )
    if not ends_clean(meant, steps):
        raise OptionError(
            f"{name} does not come to a clean latent that D predicts in {steps} steps: use a "
            "DDIMScheduler, as default_scheduler() is"
        )
    check_prediction(scheduler, ("sample",), "D predicts the clean latent")
    if mode == "paper" and not isinstance(scheduler, DDIMScheduler):
        raise OptionError(
            f'mode "paper" rewrites the step of DDIM (equation 4), which {name} does not take: '
            f'use a DDIMScheduler, or mode "cached"'
        )
