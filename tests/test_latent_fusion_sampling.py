"""Sampling: equation 4, the schedulers' own steps, closed forms, noise, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from small_fusion import latent, small_fusion

from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec.noise import counter_noise
from diffusers_codec.pipelines.latent_fusion import default_scheduler, mix, sample
from diffusers_codec.pipelines.latent_fusion.sampling import fraction

STOCK = [
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
]


@pytest.fixture(scope="module")
def fusion():
    return small_fusion()


@pytest.fixture
def scheduler():
    return default_scheduler()


def stock(scheduler_class):
    return scheduler_class.from_config(default_scheduler().config)


class Recorder:
    """Stands for D and keeps what D saw and said; ``fail`` forbids to run it at all."""

    def __init__(self, fusion, monkeypatch, fail=False):
        self.times, self.inputs, self.outputs = [], [], []

        def forward(sample, time, condition, *, quality=None):
            assert not fail, "D was run"
            self.times.append(round(float(time), 6))
            self.inputs.append(sample)
            self.outputs.append(type(fusion).forward(fusion, sample, time, condition))
            return self.outputs[-1]

        monkeypatch.setattr(fusion, "forward", forward)


class TestDefaultScheduler:
    def test_it_goes_from_pure_noise_to_a_clean_latent(self, scheduler):
        scheduler.set_timesteps(10)
        assert scheduler.timesteps.tolist() == list(range(999, 0, -100))
        assert float(scheduler.alphas_cumprod[-1]) ** 0.5 == pytest.approx(0.006, abs=5e-4)
        assert scheduler.final_alpha_cumprod == 1

    @pytest.mark.parametrize("steps", [1, 2, 4, 10])
    def test_times_start_at_one(self, fusion, scheduler, monkeypatch, steps):
        recorder = Recorder(fusion, monkeypatch)
        sample(fusion, scheduler, latent(), seed=1, num_inference_steps=steps)
        assert recorder.times == [round(1 - i / steps, 6) for i in range(steps)]


class TestEquation4:
    def test_tau_0_is_the_schedulers_own_loop(self, fusion, scheduler):
        paper = sample(fusion, scheduler, latent(), seed=1, mode="paper")
        own = default_scheduler()
        own.set_timesteps(10)
        known = fusion.normalize(latent())
        condition, x = fusion.condition(known), counter_noise(1, latent().shape)
        for t in own.timesteps:
            clean = fusion(x, (int(t) + 1) / 1000, condition)
            x = own.step(clean, t, x, eta=0.0).prev_sample
        assert (paper - fusion.denormalize(x)).abs().max() < 1e-5
        cached = sample(fusion, scheduler, latent(), seed=1)
        assert (paper - cached).abs().max() < 1e-5

    @pytest.mark.parametrize("tau", [0.0, 0.3, 0.8])
    @pytest.mark.parametrize("steps", [1, 4, 10])
    def test_closed_form(self, fusion, scheduler, monkeypatch, tau, steps):
        """alpha_0 = 1 leaves (1 - tau^2) D(last) + tau^2 y_hat."""
        recorder = Recorder(fusion, monkeypatch)
        arguments = {"seed": 1, "mode": "paper", "tau": tau, "num_inference_steps": steps}
        result = sample(fusion, scheduler, latent(), **arguments)
        last = fusion.denormalize(recorder.outputs[-1])
        expected = (1 - tau**2) * last + tau**2 * latent()
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)

    def test_each_step_is_the_equation(self, fusion, scheduler, monkeypatch):
        """The inputs of D, recomputed from the paper's formula in double precision."""
        recorder, tau = Recorder(fusion, monkeypatch), 0.6
        sample(fusion, scheduler, latent(), seed=1, mode="paper", tau=tau, num_inference_steps=4)
        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        known = fusion.normalize(latent()).double()
        for i, (this, following) in enumerate([(999, 749), (749, 499), (499, 249)]):
            a, b = alphas[this], alphas[following]
            noisy, clean = recorder.inputs[i].double(), recorder.outputs[i].double()
            noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
            fused = (1 - tau**2) * clean + tau**2 * known
            expected = b.sqrt() * fused + (1 - tau**2) * (1 - b).sqrt() * noise
            torch.testing.assert_close(recorder.inputs[i + 1].double(), expected, atol=1e-4, rtol=0)

    def test_modes_differ_between_the_ends_only(self, fusion, scheduler):
        results = {
            (mode, tau): sample(fusion, scheduler, latent(), seed=1, mode=mode, tau=tau)
            for mode in ("paper", "cached")
            for tau in (0.5, 1.0)
        }
        assert not torch.equal(results["paper", 0.5], results["cached", 0.5])
        assert torch.equal(results["paper", 1.0], results["cached", 1.0])

    @pytest.mark.parametrize("mode", ["paper", "cached"])
    def test_tau_1_is_y_hat_and_never_runs_d(self, fusion, scheduler, monkeypatch, mode):
        Recorder(fusion, monkeypatch, fail=True)
        y_hat = latent()
        assert sample(fusion, scheduler, y_hat, seed=1, mode=mode, tau=1.0) is y_hat


class TestMix:
    def test_weights(self):
        torch.testing.assert_close(
            mix(latent(), latent(seed=2), 0.3), 0.91 * latent() + 0.09 * latent(seed=2)
        )
        assert torch.equal(mix(latent(), latent(seed=2), 0), latent())

    def test_one_end_is_exact_even_beside_nan(self):
        y_hat = latent()
        assert mix(latent() * math.nan, y_hat, 1) is y_hat

    def test_cached_mode_is_a_mixture_of_its_own_tau_0(self, fusion, scheduler):
        y_tilde = sample(fusion, scheduler, latent(), seed=1)
        given = sample(fusion, scheduler, latent(), seed=1, tau=0.7)
        assert torch.equal(given, mix(y_tilde, latent(), 0.7))


class TestStockSchedulers:
    @pytest.mark.parametrize("scheduler_class", STOCK)
    def test_each_one_ends_near_ddim(self, fusion, scheduler_class):
        """D hardly depends on y_t here, so every solver must come to about the same latent."""
        reference = sample(fusion, default_scheduler(), latent(), seed=1)
        other = sample(fusion, stock(scheduler_class), latent(), seed=1)
        assert other.isfinite().all()
        error, change = (other - reference).std(), (reference - latent()).std()
        assert error < 0.2 * change

    @pytest.mark.parametrize("scheduler_class", STOCK)
    def test_repeats_are_identical(self, fusion, scheduler_class):
        scheduler, results = stock(scheduler_class), []
        for global_seed in (1, 2):
            torch.manual_seed(global_seed)
            results.append(sample(fusion, scheduler, latent(), seed=5, num_inference_steps=3))
        assert torch.equal(*results)
        other = sample(fusion, scheduler, latent(), seed=6, num_inference_steps=3)
        assert not torch.equal(results[0], other)

    @pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
    def test_times_are_in_range(self, spacing):
        scheduler = EulerDiscreteScheduler.from_config(
            default_scheduler().config, timestep_spacing=spacing
        )
        scheduler.set_timesteps(7)
        times = [float(fraction(t, scheduler)) for t in scheduler.timesteps]
        assert times == sorted(times, reverse=True)
        assert 0 < times[-1] < times[0] <= 1

    def test_euler_hands_d_inputs_of_unit_scale(self, fusion, monkeypatch):
        """Its own state starts at a standard deviation of about 158."""
        recorder = Recorder(fusion, monkeypatch)
        sample(fusion, stock(EulerDiscreteScheduler), latent(24, 32, 32), seed=1)
        assert recorder.times[0] == 1
        assert recorder.inputs[0].std() == pytest.approx(1, abs=0.05)


class TestVariableRate:
    def test_the_rate_point_reaches_d_in_both_places(self, scheduler):
        fusion = small_fusion(rate_points=10)
        low, high = (sample(fusion, scheduler, latent(), seed=1, quality=q) for q in (0.0, 9.0))
        assert not torch.equal(low, high)
        with pytest.raises(OptionError, match="needs the rate point"):
            sample(fusion, scheduler, latent(), seed=1)


class TestCallback:
    def test_it_sees_every_step_and_may_change_it(self, fusion, scheduler):
        seen = []

        def watch(number, timestep, noisy):
            seen.append((number, int(timestep), noisy))

        watched = sample(fusion, scheduler, latent(), seed=1, num_inference_steps=2, callback=watch)
        assert [entry[:2] for entry in seen] == [(0, 999), (1, 499)]
        torch.testing.assert_close(fusion.denormalize(seen[-1][2]), watched)
        changed = sample(
            fusion, scheduler, latent(), seed=1, callback=lambda _n, _t, noisy: 0 * noisy
        )
        torch.testing.assert_close(changed, fusion.denormalize(0 * latent()))


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tau": 1.5}, "tau 1.5: give a number from 0"),
            ({"tau": -0.1}, "tau -0.1"),
            ({"tau": math.nan}, "tau nan"),
            ({"tau": torch.tensor([0.1, 0.2])}, r"tau tensor\(\[0\.1000, 0\.2000\]\): give"),
            ({"mode": "fast"}, "'fast': give one of cached, paper"),
            ({"num_inference_steps": 0}, "num_inference_steps 0: give an integer from 1"),
            ({"num_inference_steps": 1001}, "from 1 to 1000"),
            ({"seed": -1}, "seed -1"),
        ],
    )
    def test_options(self, fusion, scheduler, monkeypatch, options, message):
        Recorder(fusion, monkeypatch, fail=True)
        with pytest.raises(OptionError, match=message):
            sample(fusion, scheduler, latent(), **{"seed": 1, **options})

    @pytest.mark.parametrize(
        ("scheduler", "message"),
        [
            (DDIMScheduler(), r'DDIMScheduler\.from_config\(.*prediction_type="sample"'),
            (FlowMatchEulerDiscreteScheduler(), "does not come to a clean latent"),
            (DDIMScheduler(prediction_type="sample"), "clip_sample=False"),
            (
                DPMSolverMultistepScheduler(prediction_type="sample", thresholding=True),
                "thresholding=False",
            ),
        ],
    )
    def test_schedulers(self, fusion, scheduler, message):
        with pytest.raises(OptionError, match=message):
            sample(fusion, scheduler, latent(), seed=1)

    @pytest.mark.parametrize("scheduler_class", STOCK[1:])
    def test_equation_4_needs_ddim(self, fusion, scheduler_class):
        with pytest.raises(OptionError, match="rewrites the step of DDIM"):
            sample(fusion, stock(scheduler_class), latent(), seed=1, mode="paper", tau=0.5)

    def test_latent_of_another_width(self, fusion, scheduler):
        with pytest.raises(CheckpointError, match="has 32 channels"):
            sample(fusion, scheduler, latent(32), seed=1)
