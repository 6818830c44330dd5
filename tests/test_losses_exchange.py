"""What lambda becomes for a loss: one at which D grows as the square error does."""

from __future__ import annotations

import pytest
import torch
from small_models import picture

import compressai_gen  # noqa: F401  (fills the registries)
from compressai_gen.losses.exchange import LEAST_SHARE, adapted, exchange_rate
from compressai_gen.losses.loading import load_loss
from compressai_gen.losses.rate_distortion import mse

NAMES = ("mse", "l1", "rmse", "log-cosh", "lc-ssim", "l1-ssim")


def drawn(kind):
    """Two pictures, and one way of drawing them."""
    x = torch.cat([picture(seed=seed) for seed in (0, 1)])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
    ways = {"blurred": blurred, "noisy": x + 0.05 * noise, "grey": torch.full_like(x, 0.5)}
    return ways[kind], x


def gradient(loss, x_hat, x, multipliers):
    x_hat = x_hat.clone().requires_grad_(True)
    (multipliers * loss(x_hat, x)).sum().backward()
    return x_hat.grad.flatten(1)


@pytest.mark.parametrize("kind", ["blurred", "noisy", "grey"])
@pytest.mark.parametrize("name", NAMES)
def test_d_grows_as_the_square_error_does(name, kind):
    loss, (x_hat, x) = load_loss(name), drawn(kind)
    multipliers = torch.tensor([0.01, 0.1])
    own = adapted(multipliers, x_hat, loss, x)
    further = x + 1.05 * (x_hat - x)
    growth = own * (loss(further, x) - loss(x_hat, x))
    wanted = multipliers * (mse(further, x) - mse(x_hat, x))
    torch.testing.assert_close(growth, wanted, rtol=1e-3, atol=0)
    size = gradient(loss, x_hat, x, own).norm(dim=1)
    wanted = gradient(mse, x_hat, x, multipliers).norm(dim=1)
    assert (size > 0.9 * wanted).all()
    assert (size < 3 * wanted).all()


def test_every_picture_by_itself():
    loss, (x_hat, x) = load_loss("l1"), drawn("blurred")
    multipliers = torch.tensor([0.01, 0.1])
    together = adapted(multipliers, x_hat, loss, x)
    for i in (slice(0, 1), slice(1, 2)):
        alone = adapted(multipliers[i], x_hat[i], loss, x[i])
        torch.testing.assert_close(together[i], alone)


@pytest.mark.parametrize("error", [0.1, 0.02])
def test_l1_is_worth_one_over_twice_the_error(error):
    x = torch.full((1, 3, 16, 16), 0.5)
    rate = exchange_rate(torch.full_like(x, error), load_loss("l1"), x)
    assert rate == pytest.approx(1 / (2 * error), rel=0.05)
    own = adapted(torch.ones(1), x + error, load_loss("l1"), x)
    assert float(own) == pytest.approx(255**2 / rate, rel=1e-4)


def test_no_gradient_goes_through_it():
    x_hat, x = drawn("noisy")
    own = adapted(torch.ones(2), x_hat.requires_grad_(True), load_loss("l1"), x)
    assert not own.requires_grad


def test_of_pictures_that_are_met_lambda_is_left_alone():
    x = picture()
    assert exchange_rate(torch.zeros_like(x), load_loss("l1"), x) is None
    for error in (0, 1e-6):
        own = adapted(torch.full((1,), 0.01), x + error, load_loss("l1"), x)
        assert float(own) == pytest.approx(0.01)


def test_a_loss_that_stands_still_or_falls_weighs_no_more_than_a_root():
    x_hat, x = drawn("grey")
    multipliers = torch.tensor([0.01, 0.1])
    for sign in (0, -1):

        def loss(x_hat, x, sign=sign):
            return 1 + sign * mse(x_hat, x) / 255**2

        own = adapted(multipliers, x_hat, loss, x)
        weighted = own * loss(x_hat, x) / (multipliers * mse(x_hat, x))
        torch.testing.assert_close(weighted, torch.full((2,), 1 / LEAST_SHARE))
        assert exchange_rate(x_hat - x, loss, x) is None


def test_half_precision_and_autocast_change_nothing():
    x_hat, x = drawn("noisy")
    x_hat = x_hat.bfloat16()
    expected = adapted(torch.ones(2), x_hat.float(), load_loss("lc-ssim"), x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adapted(torch.ones(2), x_hat, load_loss("lc-ssim"), x), expected)
