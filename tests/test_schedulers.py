"""Stock schedulers in our pipelines: those that can be used, and what the others are told."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from small_diffeic import small_pipeline as small_diffeic
from small_fusion import latent, small_fusion
from small_models import picture

from compressai_gen.errors import OptionError
from diffusers_codec.noise import drawn_seeds, step_generator
from diffusers_codec.pipelines import diffeic
from diffusers_codec.pipelines.latent_fusion import default_scheduler, sample
from diffusers_codec.pipelines.schedulers import check_steps, ends_clean

KNOW_CLEAN_LATENTS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "UniPCMultistepScheduler",
)
DO_NOT = (
    "CMStochasticIterativeScheduler",
    "EulerAncestralDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "IPNDMScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
)
SEVERAL_PASSES = (
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
)


def made(name, config, **changes):
    return getattr(diffusers, name).from_config(config, **changes)


@pytest.mark.parametrize("name", KNOW_CLEAN_LATENTS)
def test_those_that_end_at_the_clean_latent(name):
    scheduler = made(name, default_scheduler().config)
    assert ends_clean(scheduler, 10)
    assert ends_clean(scheduler, 7)
    fused = sample(small_fusion(), scheduler, latent(), seed=1, num_inference_steps=4)
    assert fused.isfinite().all()


@pytest.mark.parametrize("name", DO_NOT)
def test_those_that_do_not_are_refused_before_anything_is_sampled(name, monkeypatch):
    fusion = small_fusion()
    monkeypatch.setattr(fusion, "condition", None)  # what sampling begins with
    for kept in ("sample", "epsilon"):
        config = {**default_scheduler().config, "prediction_type": kept}
        with pytest.raises(OptionError, match=f"{name} does not come to a clean latent"):
            sample(fusion, made(name, config), latent(), seed=1)


def test_the_trial_leaves_the_scheduler_alone():
    scheduler = made("DPMSolverMultistepScheduler", default_scheduler().config)
    scheduler.set_timesteps(5)
    before = scheduler.timesteps.clone()
    assert ends_clean(scheduler, 3)
    assert torch.equal(scheduler.timesteps, before)


@pytest.fixture(scope="module")
def pipe():
    return small_diffeic()


@pytest.fixture(scope="module")
def data(pipe):
    return pipe.compress(picture(72, 100)[0])


class TestDiffEIC:
    @pytest.mark.parametrize("name", SEVERAL_PASSES)
    @pytest.mark.parametrize("start", [1.0, 0.5])
    def test_several_passes_a_step(self, pipe, data, name, start):
        scheduler = made(name, diffeic.default_scheduler().config)
        with pytest.raises(OptionError, match=rf"{name} takes \d+ passes for \d+ steps"):
            pipe.decompress(data, num_inference_steps=6, scheduler=scheduler, start=start)

    def test_noise_of_unknown_strength(self, pipe, data):
        scheduler = made("IPNDMScheduler", diffeic.default_scheduler().config)
        with pytest.raises(OptionError, match="IPNDMScheduler has no alphas_cumprod"):
            pipe.decompress(data, num_inference_steps=4, scheduler=scheduler)

    def test_a_scheduler_with_a_limit_of_its_own(self, pipe, data):
        scheduler = made("LCMScheduler", diffeic.default_scheduler().config)
        with pytest.raises(OptionError, match="cannot be set to 60 steps"):
            pipe.decompress(data, num_inference_steps=60, scheduler=scheduler)

    def test_a_late_start_has_fewer_steps_by_default(self):
        late = small_diffeic(start=0.03)
        seen = []
        late.decompress(
            late.compress(picture(64, 64)[0]),
            callback_on_step_end=lambda _p, step, _t, _l: seen.append(step),
        )
        assert len(seen) == 30
        with pytest.raises(OptionError, match="at most 30"):
            late.compress(picture(64, 64)[0], num_inference_steps=31)


@pytest.mark.parametrize("steps", [2.5, "4", True, 0, 1001, None, -1])
def test_a_number_of_steps(steps):
    with pytest.raises(OptionError, match="give an integer from 1 to 1000"):
        check_steps(default_scheduler(), steps)


def test_numbers_of_numpy_are_numbers():
    assert check_steps(default_scheduler(), np.int64(4)) == 4
    fusion = small_fusion()
    one = sample(fusion, default_scheduler(), latent(), seed=np.uint64(3), tau=np.float32(0.5))
    assert torch.equal(one, sample(fusion, default_scheduler(), latent(), seed=3, tau=0.5))
    several = (torch.tensor([0.1, 0.2]), np.array([0.1, 0.2]), np.zeros(0), np.zeros((9, 9)))
    for tau in ("0.3", None, 1j, torch.tensor(1j), *several):
        with pytest.raises(OptionError, match="give a number from 0"):
            sample(fusion, default_scheduler(), latent(), seed=3, tau=tau)


def test_seeds_from_a_generator():
    assert drawn_seeds(None, 2) == [None, None]
    first, second = drawn_seeds(step_generator(5), 2)
    assert first != second
    generator = step_generator(5)
    assert [drawn_seeds(generator, 1), drawn_seeds(generator, 1)] == [[first], [second]]
    assert drawn_seeds([step_generator(5), step_generator(5)], 2) == [first, first]
    for given, message in (
        ([step_generator(5)], "1 generators for 2 pictures: give one for each"),
        ([], "0 generators for 2 pictures"),
        ([5, 5], r"generator \[5, 5\]: give a torch\.Generator or a list"),
        (5, r"generator 5: give a torch\.Generator"),
    ):
        with pytest.raises(OptionError, match=message):
            drawn_seeds(given, 2)


def test_stock_schedulers_can_be_swapped(pipe, data):
    config, pictures = diffeic.default_scheduler().config, []
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"):
        scheduler = made(name, config, clip_sample=False)
        pictures.append(pipe.decompress(data, num_inference_steps=4, scheduler=scheduler))
        assert np.isfinite(np.asarray(pictures[-1])).all()
    pictures.append(pipe.decompress(data, num_inference_steps=4))
    assert len({np.asarray(image).tobytes() for image in pictures}) == 4
    assert isinstance(pipe.scheduler, diffusers.DDPMScheduler)


def test_v_prediction(data):
    scheduler = made(
        "DDIMScheduler",
        diffeic.default_scheduler().config,
        prediction_type="v_prediction",
        clip_sample=False,
    )
    image = small_diffeic(scheduler=scheduler).decompress(data, num_inference_steps=2)
    assert image.size == (100, 72)
