"""What a fit of COOL-CHIC makes of its loss: the best state, and what lambda means."""

from __future__ import annotations

import pytest
import torch
from quick_fits import small_photo, tensor_of

from compressai_gen_plugins.overfitted.coolchic_cost import loss_of
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting, fit
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_versions import V1


@pytest.fixture(scope="module")
def x():
    return tensor_of(small_photo())


def fitting_of(x, loss, **options):
    torch.manual_seed(0)
    judge = loss_of(loss, x.device)
    return Fitting(x[None], V1, [1e-3], Schedule(((1, 5),), ()), judge, **options)


def draw(fitting, grey):
    """Have the network draw a plain picture."""
    for name, value in fitting.stack.weights.items():
        value.fill_(grey if name == "network.synthesis.2.bias" else 0)


def test_the_best_state_is_kept(x):
    seen, fitting = [], fitting_of(x, "mse")
    fitting.warm_up()
    check = fitting.check
    fitting.check = lambda: seen.append(check()) or seen[-1]
    fitting.train(Stage(120, 1))
    assert fitting.best_cost == min(seen)
    assert float(check()) == pytest.approx(float(min(seen)), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "low", "high"), [("mse", 0.999, 1.001), ("log-cosh", 0.4, 0.5), ("l1", 1, 30)]
)
def test_d_is_divided_by_what_it_is_worth(x, loss, low, high):
    """By dD / dMSE, as it is when a stage begins."""
    fitting = fitting_of(x, loss)
    fitting.warm_up()
    before = 1 / float(fitting.scales)
    fitting.train(Stage(120, 1))
    fitting.adapt()
    after = 1 / float(fitting.scales)
    assert low < before < high
    assert low < after < high
    if loss == "l1":
        assert after > 1.1 * before


@pytest.mark.parametrize("error", [0.1, 0.02])
def test_l1_is_worth_one_over_twice_the_error(error):
    fitting = fitting_of(torch.full((3, 24, 40), 0.5), "l1")
    draw(fitting, 0.5 + error)
    fitting.adapt()
    assert float(fitting.scales) == pytest.approx(2 * error, rel=0.05)
    _, distortion, _, square = fitting.stack.evaluate((*fitting.inputs(), []), clamped=True)
    assert float(distortion) == pytest.approx(2 * float(square), rel=0.05)
    draw(fitting, 0.5)  # met exactly: nothing to be told
    fitting.adapt()
    assert float(fitting.scales) == pytest.approx(2 * error, rel=0.05)


def test_lambda_can_be_left_alone(x):
    fitting = fitting_of(x, "l1", same_lambda=True)
    fitting.warm_up()
    fitting.adapt()
    assert float(fitting.scales) == 1


def test_while_grids_fill_d_is_adapted_whenever_the_error_has_halved():
    """Each picture's by itself."""
    judge = loss_of("l1", torch.device("cpu"))
    fitting = Fitting(torch.full((2, 3, 24, 40), 0.5), V1, [1e-3, 1e-3], Schedule((), ()), judge)

    def scales(*errors, fallen):
        draw(fitting, 0.5)
        fitting.stack.weights["network.synthesis.2.bias"] += torch.tensor(errors)[:, None]
        fitting.adapt(fallen=fallen)
        return pytest.approx(fitting.scales.tolist(), rel=0.05)

    assert scales(0.4, 0.4, fallen=False) == [0.8, 0.8]
    assert scales(0.3, 0.2, fallen=True) == [
        0.8,
        0.4,
    ]  # 0.3 squared is more than half of 0.4 squared
    assert scales(0.2, 0.18, fallen=True) == [0.4, 0.4]


def test_a_ladder_of_l1_means_by_lambda_what_mse_does(x):
    """Measured at empty grids alone, L1 ends at a third of the error and half as many bits more."""
    ends = Stage(100, 1 / 10), Stage(50, 1 / 20, rounded=True)
    schedule = Schedule(((1, 60),), (Stage(400, 1), *ends))
    rates, errors = {}, {}
    for loss in ("mse", "l1"):
        ((top, _),) = fit(x[None], V1, 1e-4, schedule, loss=loss)
        ((low, _),) = fit(x[None], V1, 1e-3, schedule, loss=loss, start=top)
        latents = low.latents(torch.round)
        rates[loss] = float(low.rate(latents).detach())
        errors[loss] = float((low.picture(latents) - x).square().mean().detach())
    assert 0.6 < rates["l1"] / rates["mse"] < 1.2
    assert 0.5 < errors["l1"] / errors["mse"] < 2
