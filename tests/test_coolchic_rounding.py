"""COOL-CHIC: what stands in for rounding in a fit, and when."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.coolchic_cost import Cost, loss_of
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting, fit
from compressai_gen_plugins.overfitted.coolchic_schedules import (
    SCHEDULES,
    SHARP,
    SOFT,
    Schedule,
    Stage,
)
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2
from compressai_gen_plugins.overfitted.rounding import peaked, quantised, soft_round

VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)
Y = torch.linspace(-3, 3, 601, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.4, 5.0])
def test_soft_rounding_rises_and_leaves_integers_and_halves(temperature):
    soft = soft_round(Y, temperature)
    assert (soft.diff() >= 0).all()
    assert ((soft - Y).abs() < 0.5).all()
    torch.testing.assert_close(soft[::50], Y[::50])


def test_soft_rounding_goes_from_the_identity_to_rounding():
    inner = (Y - Y.floor() - 0.5).abs() > 0.02
    assert torch.equal(soft_round(Y, 1e-3)[inner].round(), Y[inner].round())
    torch.testing.assert_close(soft_round(Y, 1e-3)[inner], Y[inner].round())
    torch.testing.assert_close(soft_round(Y, 100.0), Y, atol=1e-4, rtol=0)


def test_noise_is_mostly_small_and_as_often_above_as_below():
    noise = peaked(torch.linspace(0, 1, 100_001, dtype=torch.float64))
    assert noise.min() == -0.5
    assert noise.max() == 0.5
    assert abs(float(noise.mean())) < 0.01
    shares = torch.histc(noise, 10, -0.5, 0.5)
    assert shares.argmax() in (4, 5)
    assert noise.std() < 12**-0.5


def test_without_a_temperature_the_noise_is_uniform_as_published():
    uniform = torch.rand(601, dtype=torch.float64)
    assert torch.equal(quantised(Y, uniform, None), Y + uniform - 0.5)


@pytest.mark.parametrize("temperature", [None, 0.2])
@VERSIONS
def test_gradients_of_latents_are_those_of_rounding_times_the_slope(version, temperature):
    network = CoolChic(version, 30, 41).double()
    for grid in network.grids:
        grid.data += torch.randn_like(grid)
    cost = Cost(network, loss_of("mse", torch.device("cpu")))
    noise = [torch.rand_like(grid) for grid in cost.network.grids]
    sum(y.sum() for y in cost.latents(noise, temperature)).backward()
    for level, (grid, uniform) in enumerate(zip(cost.network.grids, noise, strict=True)):
        found, y = grid.grad, (grid.detach() * 2**level).requires_grad_()
        quantised(y, uniform, temperature).sum().backward()
        torch.testing.assert_close(found, version.noise_slope * 2**level * y.grad)


@pytest.mark.parametrize("preset", ["draft", "fast", "medium", "slow"])
def test_temperatures_fall_as_the_rate_does(preset):
    schedule = SCHEDULES[preset]
    told = [schedule.temperatures(number) for number in range(len(schedule.stages))]
    soft = [not stage.rounded and stage.rate < 1 for stage in schedule.stages]
    ends = [pair for pair in told if pair is not None]
    assert [pair is not None for pair in told] == soft
    assert ends[0][0] == SOFT
    assert ends[-1][1] == pytest.approx(SHARP)
    assert all(start > end for start, end in ends)
    for (_, before), (after, _) in pairwise(ends):
        assert after == before


def test_at_the_full_rate_there_is_noise_alone(monkeypatch):
    told = []
    monkeypatch.setattr(Fitting, "step", lambda self, optimizer, stage, t: told.append(t))
    stages = Stage(4, 1), Stage(4, 0.5), Stage(4, 0.2), Stage(2, 0.1, rounded=True)
    fit(torch.rand(1, 3, 16, 16), V1, 1e-3, Schedule(((1, 3),), stages, trial=2))
    falling = [SOFT + n / 8 * (SHARP - SOFT) for n in range(8)]
    assert told[:9] == [None] * 9
    assert told[9:17] == pytest.approx(falling)
    assert told[17:] == [None] * 2
