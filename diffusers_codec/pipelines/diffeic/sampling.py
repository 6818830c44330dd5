"""From the content variable to a latent: a stock scheduler, a stock UNet and the control module."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from compressai_gen.errors import OptionError
from diffusers_codec.models.injection import Injection
from diffusers_codec.models.tiling import tiled
from diffusers_codec.noise import check_seed, counter_noise
from diffusers_codec.pipelines import schedulers
from diffusers_codec.pipelines.callbacks import Progress, StepCallback

STEPS = 50
"""The paper's."""


def default_scheduler() -> DDPMScheduler:
    """The paper's spaced DDPM, with Stable Diffusion's betas.

    Fifty steps spread evenly from T - 1 to 0 are those of guided-diffusion; diffusers calls it
    "linspace". Nothing is clipped.
    """
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="epsilon",
        timestep_spacing="linspace",
        variance_type="fixed_small",
        clip_sample=False,
    )


@torch.no_grad()
def sample(
    unet: Any,
    control: Any,
    scheduler: Any,
    z_c: Tensor,
    *,
    seed: int,
    num_inference_steps: int = STEPS,
    start: float = 1.0,
    tile: int | None = None,
    callback: StepCallback | None = None,
    progress: Progress = iter,
) -> Tensor:
    """A latent of the diffusion model whose content is z_c.

    Args:
        unet: a stock `UNet2DConditionModel`; it is left as it was.
        control: the control module, which holds the prompt's embedding.
        scheduler: of diffusers; its timesteps are set here.
        z_c: scaled content variable, shape (B, C, h, w).
        seed: of the start noise and of a stochastic scheduler's steps.
        num_inference_steps: passes of UNet and control module; 0 gives z_c itself.
        start: 1 starts from noise alone, as in the paper; less from z_c with the noise of that
            share of the time steps, as RDEIC does (0.3).
        tile: side of the overlapping tiles of z_c on which the networks run, for pictures larger
            than memory; None for the whole.
        callback: called after each step.
        progress: gets the time steps.

    Returns:
        scaled latent, shape of ``z_c``, float32.

    Raises:
        OptionError: whatever is out of range, before anything is computed.
    """
    check_steps(scheduler, num_inference_steps, start)
    check_seed(seed)
    if num_inference_steps == 0:
        return z_c.float()
    device, dtype = z_c.device, unet.dtype
    timesteps = spaced(scheduler, num_inference_steps, start, device)
    noise = counter_noise(seed, z_c.shape).to(device)
    if start == 1:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(z_c.float(), noise, timesteps[:1])
    prompt = control.prompt.to(device, dtype).expand(len(z_c), -1, -1)
    extra = schedulers.step_noise(scheduler, seed)
    with Injection(unet) as injection:

        def predict(rows: slice, columns: slice) -> Tensor:
            part = seen[:, :, rows, columns]
            content = z_c[:, :, rows, columns].to(dtype)
            injection.set(control(part, timestep, content, prompt))
            predicted: Tensor = unet(part, timestep, encoder_hidden_states=prompt).sample
            return predicted.float()

        for number, timestep in enumerate(progress(timesteps)):
            seen = scheduler.scale_model_input(latents, timestep).to(dtype)
            predicted = tiled(predict, z_c.shape[2], z_c.shape[3], tile)
            latents = scheduler.step(predicted, timestep, latents, **extra).prev_sample
            changed = None if callback is None else callback(number, timestep, latents)
            latents = latents if changed is None else changed
    return latents.float()


def spaced(scheduler: Any, steps: int, start: float, device: torch.device) -> Tensor:
    """The time steps, largest first: the last ``steps`` of as many as spread over all of them."""
    scheduler.set_timesteps(all_steps(steps, start), device=device)
    first = len(scheduler.timesteps) - steps
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def all_steps(steps: int, start: float) -> int:
    """How many steps there are from pure noise on, if ``steps`` lie after ``start``."""
    return max(steps, round(steps / start))


def default_steps(scheduler: Any, start: float) -> int:
    """The paper's number of steps, or as many as lie after ``start``."""
    return min(STEPS, int(scheduler.config["num_train_timesteps"] * start))


def check_steps(scheduler: Any, steps: int, start: float) -> None:
    """Whether a scheduler can be run so.

    Raises:
        OptionError: steps or start out of range, or a scheduler for predictions of another kind or
            with several passes a step.
    """
    steps = schedulers.check_steps(scheduler, steps, least=0)
    most = scheduler.config["num_train_timesteps"]
    if not 0 < start <= 1:
        raise OptionError(f"start {start!r}: give a number above 0, at most 1 (pure noise)")
    if round(steps / start) > most:
        raise OptionError(
            f"{steps} steps in the last {start:g} of {most} time steps: at most {int(most * start)}"
        )
    predicts = "UNets of Stable Diffusion predict the noise or a velocity"
    schedulers.check_prediction(scheduler, ("epsilon", "v_prediction"), predicts)
    if steps:
        schedulers.check_visits(scheduler, all_steps(steps, start))
