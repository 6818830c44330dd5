"""What our pipelines ask of a stock scheduler, told before anything is computed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch

from compressai_gen.errors import OptionError
from diffusers_codec.noise import integer, step_generator

REMAINDER = 0.02
"""Of the start noise, what may be left at the end: DDIM leaves 0.01 where it ends at alpha_1."""


def check_steps(scheduler: Any, steps: Any, least: int = 1) -> int:
    """``steps``, if the scheduler can take so many.

    Raises:
        OptionError: not an integer from ``least`` to the scheduler's training steps.
    """
    most = int(scheduler.config["num_train_timesteps"])
    number = integer(steps)
    if not least <= number <= most:
        raise OptionError(f"num_inference_steps {steps!r}: give an integer from {least} to {most}")
    return number


def check_prediction(scheduler: Any, kinds: Sequence[str], network: str) -> None:
    """Whether a scheduler takes what a network predicts, as it is.

    Args:
        scheduler: of diffusers.
        kinds: diffusers' names of what the network predicts.
        network: what is told of it.

    Raises:
        OptionError: a scheduler for predictions of another kind, or one that clips them.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if config.get("prediction_type") not in kinds:
        raise OptionError(
            f"{name} has prediction_type {config.get('prediction_type')!r}, {network}: use "
            f'{name}.from_config(scheduler.config, prediction_type="{kinds[0]}")'
        )
    if config.get("clip_sample") or config.get("thresholding"):
        raise OptionError(
            f"{name} clips predictions to pixels' range, latents go beyond: use "
            f"{name}.from_config(scheduler.config, clip_sample=False, thresholding=False)"
        )


def check_visits(scheduler: Any, steps: int) -> None:
    """Whether a scheduler evaluates the network once a step, from noise of known strength.

    PNDM, Heun and KDPM2 do it more than once: their time steps cannot be cut at a start, nor does
    a number of steps say what they cost.

    Raises:
        OptionError: it does not, or cannot be set to so many steps.
    """
    name, trial = type(scheduler).__name__, copy.deepcopy(scheduler)
    use = "use one that takes each once, such as DDIMScheduler.from_config(scheduler.config)"
    try:
        trial.set_timesteps(steps)
    except ValueError as error:
        raise OptionError(f"{name} cannot be set to {steps} steps ({error}): {use}") from error
    if len(trial.timesteps) != steps:
        raise OptionError(f"{name} takes {len(trial.timesteps)} passes for {steps} steps: {use}")
    if not hasattr(trial, "alphas_cumprod"):
        raise OptionError(f"{name} has no alphas_cumprod, the strengths of the noise: {use}")


@torch.no_grad()
def ends_clean(scheduler: Any, steps: int) -> bool:
    """Whether a scheduler's own loop, on one number, ends at a clean latent that never changes.

    Those that do not know predictions of the clean latent have no name for them, raise, or end
    elsewhere.
    """
    if "prediction_type" not in inspect.signature(type(scheduler)).parameters:
        return False
    trial, clean = copy.deepcopy(scheduler), torch.ones(1, 1, 1, 1)
    try:
        trial.set_timesteps(steps)
        noisy = 2 * clean * trial.init_noise_sigma
        for timestep in trial.timesteps:
            trial.scale_model_input(noisy, timestep)  # where some count their steps
            noisy = trial.step(clean, timestep, noisy, **step_noise(trial, 0)).prev_sample
    except Exception:  # each has its own, from NotImplementedError to IndexError
        return False
    return bool((noisy - clean).abs() <= REMAINDER)


def step_noise(scheduler: Any, seed: int) -> dict[str, Any]:
    """What a stochastic scheduler's ``step`` draws from, the same on every device."""
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": step_generator(seed)} if takes_noise else {}
