"""The losses of pictures: values by hand, extremes, gradients, and CompressAI's registry."""

from __future__ import annotations

import math

import pytest
import torch
from data import needs, shared_data

import compressai_gen  # noqa: F401  (fills the registries)
from compressai_gen.errors import ImageError, OptionError, UnknownNameError
from compressai_gen.losses import pictures
from compressai_gen.losses.loading import load_loss

NAMES = ("l1", "mse", "rmse", "log-cosh", "lc-ssim", "l1-ssim")


def constant(error, dtype=torch.float32):
    """A pair of pictures that differ by ``error`` everywhere."""
    x = torch.zeros(2, 3, 16, 16, dtype=dtype)
    return x + error, x


@pytest.mark.parametrize("name", NAMES)
def test_one_number_a_picture_and_none_for_equal_ones(name):
    loss = load_loss(name)
    x = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert loss(x, x).shape == (3,)
    torch.testing.assert_close(loss(x, x), torch.zeros(3), atol=2e-6, rtol=0)
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    noisier = x + 2 * (noisy - x)
    assert (loss(noisier, x) > loss(noisy, x)).all()
    assert (loss(noisy, x) > 0).all()
    # each picture for itself
    alone = torch.cat([loss(a[None], b[None]) for a, b in zip(noisy, x, strict=True)])
    torch.testing.assert_close(loss(noisy, x), alone)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_where_the_pictures_are_equal(name):
    x = torch.rand(1, 3, 32, 32)
    x_hat = x.clone().requires_grad_(True)
    load_loss(name)(x_hat, x).sum().backward()
    assert x_hat.grad.isfinite().all()


@pytest.mark.parametrize("error", [-30.0, -1.0, -1e-3, 0.0, 1e-4, 0.3, 5.0, 9.999, 10.001, 200.0])
def test_log_cosh_is_ln_cosh(error):
    expected = abs(error) + math.log1p(math.exp(-2 * abs(error))) - math.log(2)
    if abs(error) < 0.01:
        expected = error**2 / 2 - error**4 / 12
    got = pictures.log_cosh(*constant(error)).double()
    torch.testing.assert_close(got, torch.full((2,), expected).double(), rtol=1e-5, atol=1e-12)
    x_hat, x = constant(error)
    x_hat.requires_grad_(True)
    pictures.log_cosh(x_hat, x).sum().backward()
    slope = x_hat.grad * 3 * 16 * 16
    torch.testing.assert_close(slope, torch.full_like(slope, math.tanh(error)))


def test_the_printed_equation_six_is_not_ln_cosh():
    """It falls without bound for negative errors; the right one is even."""
    for error in (0.5, 1.0, 3.0):
        printed = [e + math.log1p(math.exp(2 * e)) - math.log(2) for e in (error, -error)]
        assert printed[1] < 0 < printed[0]
        up, down = (pictures.log_cosh(*constant(e)) for e in (error, -error))
        assert torch.equal(up, down)


@pytest.mark.parametrize("name", [*NAMES, "ms-ssim"])
@pytest.mark.parametrize("error", [0, 1e-3, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_judged_in_float32(name, error, dtype):
    loss, generator = load_loss(name), torch.Generator().manual_seed(0)
    side = 161 if name == "ms-ssim" else 32
    x = torch.rand(1, 3, side, side, generator=generator).to(dtype)
    noise = error * torch.randn(x.shape, generator=generator)
    x_hat = (x + noise).to(dtype).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(x_hat, x)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(x_hat.float(), x.float()))
    value.sum().backward()
    assert x_hat.grad.isfinite().all()


def test_data_scale_decides_what_log_cosh_is():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 3, 64, 64)
    noisy = x + 0.03 * torch.randn(x.shape, generator=generator)
    half = pictures.log_cosh(noisy, x) / pictures.squared(noisy, x)
    assert float(half) == pytest.approx(0.5, abs=0.002)
    near = pictures.log_cosh(noisy, x, 255.0) / pictures.l1(noisy, x, 255.0)
    assert float(near) == pytest.approx(0.89, abs=0.02)
    assert torch.equal(load_loss("mse")(noisy, x), 255**2 * pictures.squared(noisy, x))


def test_scale_and_weight_can_be_set():
    x, y = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loss = load_loss("lc-ssim", data_scale=255, alpha=0.5)
    assert torch.equal(loss(y, x), pictures.lc_ssim(y, x, 255, 0.5))
    assert torch.equal(load_loss("l1", data_scale=2)(y, x), pictures.l1(y, x, 2))
    assert load_loss("l1") is pictures.l1


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("mse", {"data_scale": 2}, "loss mse has no data_scale; .* it has neither"),
        ("l1", {"alpha": 0.1}, "loss l1 has no alpha; .* it has data_scale"),
        ("lpips-alex", {"alpha": 0.1}, "loss lpips-alex has no alpha"),
        ("l1", {"data_scale": 0}, "data_scale 0 of loss l1: give a finite number above 0"),
        ("lc-ssim", {"alpha": math.nan}, "alpha nan of loss lc-ssim"),
    ],
)
def test_settings_that_a_loss_does_not_have(name, settings, words):
    with pytest.raises(OptionError, match=words):
        load_loss(name, **settings)


def test_the_mixtures():
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = (x + 0.05).clamp(0, 1)
    structure = 1 - pictures.ssim(y, x)
    torch.testing.assert_close(pictures.lc_ssim(y, x), pictures.log_cosh(y, x) + 0.01 * structure)
    expected = 0.8 * pictures.l1(y, x) + 0.2 * structure
    torch.testing.assert_close(pictures.l1_ssim(y, x), expected)
    torch.testing.assert_close(pictures.rmse(y, x).square(), pictures.squared(y, x))


@pytest.mark.parametrize("size", [(1, 1), (8, 32), (10, 10), (11, 3)])
def test_structure_of_pictures_smaller_than_its_window(size):
    generator = torch.Generator().manual_seed(0)
    x, other = torch.rand(2, 2, 3, *size, generator=generator)
    torch.testing.assert_close(pictures.ssim(x, x), torch.ones(2))
    x_hat = other.requires_grad_(True)
    near = pictures.ssim(0.9 * x + 0.1 * x_hat, x)
    assert (pictures.ssim(x_hat, x) < near).all()
    near.sum().backward()
    assert x_hat.grad.isfinite().all()
    assert x_hat.grad.abs().amin((1, 2, 3)).gt(0).all()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("ms-ssim", 161),
        pytest.param("lpips-squeeze", 32, marks=needs("weights", "lpips")),
    ],
)
def test_pictures_too_small_to_judge_are_told(name, least, monkeypatch):
    if shared_data() is not None:
        monkeypatch.setenv("COMPRESSAI_GEN_WEIGHTS", str(shared_data() / "weights"))
    loss = load_loss(name)
    x = torch.rand(1, 3, least, least)
    assert float(loss(x, x).detach()) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ImageError, match=f"{least}x{least - 1}: {name} needs .* {least} pixels"):
        loss(x[..., :-1, :], x[..., :-1, :])


def test_compressais_registry_has_them():
    import compressai.zoo  # noqa: F401
    from compressai.registry import CRITERIONS

    criterion = CRITERIONS["PictureRateDistortionLoss"](lmbda=2.0, loss="l1-ssim")
    x = torch.rand(2, 3, 32, 32)
    likelihoods = {"y": torch.full((2, 8, 2, 2), 0.5), "z": torch.full((2, 4, 1, 1), 0.25)}
    out = criterion({"x_hat": x, "likelihoods": likelihoods}, x)
    assert float(out["bpp_loss"]) == pytest.approx((8 * 4 + 4 * 2) / 1024)
    assert float(out["loss"]) == pytest.approx(float(out["bpp_loss"]), abs=1e-5)
    y = 1 - x
    own = CRITERIONS["PictureRateDistortionLoss"](2.0, "l1-ssim", data_scale=2, alpha=0.5)
    out = own({"x_hat": y, "likelihoods": likelihoods}, x)
    assert torch.equal(out["distortion_loss"], pictures.l1_ssim(y, x, 2, 0.5).mean())
    with pytest.raises(UnknownNameError):
        CRITERIONS["PictureRateDistortionLoss"](loss="l3")
