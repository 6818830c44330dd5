"""The losses of pictures in other trainings: `cgen train`, and the loop of CompressAI's script.

Both with the lambdas of mse, adapted to the loss.
"""

from __future__ import annotations

import csv
import json

import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from compressai.models import MeanScaleHyperprior
from compressai.registry import CRITERIONS
from PIL import Image
from skimage import data as photographs

import compressai_gen  # noqa: F401  (fills the registries)
from compressai_gen.checkpoints import build_model
from compressai_gen.losses.rate_distortion import bits_per_pixel
from compressai_gen.training.rate_distortion import RateDistortionTask
from compressai_gen_plugins.cheng2020_vbr.recipe import MBT2018_MEAN_GAIN_VBR

OTHERS = ("l1", "log-cosh", "lc-ssim", "l1-ssim", "rmse")


@pytest.mark.parametrize(("loss", "low", "high"), [("l1", 0.01, 1), ("mse", 10, 255**2)])
def test_a_hyperprior_is_trained_with_it(loss, low, high, cgen, tmp_path):
    Image.fromarray(photographs.astronaut()[:96, :96]).save(tmp_path / "a.png")
    out = tmp_path / "run"
    status, _, err = cgen(
        "train", "mbt2018-mean-gain-vbr", "--data", tmp_path, "--out", out, "--metric", loss,
        "--steps", 50, "--crop", 64, "--batch-size", 2, "--argument", "N=8", "--argument", "M=8",
    )  # fmt: skip
    assert status == 0, err
    with (out / "log.csv").open(newline="") as stream:
        distortions = [float(row["distortion"]) for row in csv.DictReader(stream)]
    assert distortions
    assert all(low < distortion < high for distortion in distortions)
    assert json.loads((out / "checkpoint" / "config.json").read_text())["metric"] == loss


def crops():
    """Sixteen of a photograph, (16, 3, 64, 64)."""
    photo = torch.from_numpy(photographs.astronaut()[:256, 100:356].copy()).permute(2, 0, 1) / 255
    return photo.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).reshape(16, 3, 64, 64)


def task_of(metric, **changes):
    """A small model, the same for every metric."""
    torch.manual_seed(0)
    recipe = MBT2018_MEAN_GAIN_VBR.preset("small").replace(metric=metric, **changes)
    return RateDistortionTask(build_model(recipe.architecture, {"N": 8, "M": 8}).train(), recipe)


def rates_after(steps, *arguments, **changes):
    """Bits per pixel of the lowest, a middle and the highest rate point after a short training."""
    x, task = crops(), task_of(*arguments, **changes)
    optimizer = torch.optim.Adam(task.parameters(), 2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        task(x[torch.randint(len(x), (4,))]).loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    return torch.stack([rate(task.model.eval(), x, quality) for quality in (0.0, 4.5, 9.0)])


@torch.no_grad()
def rate(model, x, quality):
    output = model(x, torch.full((len(x),), quality))
    return bits_per_pixel(output["likelihoods"], x).mean()


@pytest.fixture(scope="module")
def rates_of_mse():
    return rates_after(60, "mse")


@pytest.mark.parametrize("loss", ["l1", "log-cosh", "lc-ssim"])
def test_a_rate_point_has_about_the_rate_of_mse(loss, rates_of_mse):
    rates = rates_after(60, loss)
    assert (rates > rates_of_mse / 3).all()
    assert (rates < 3 * rates_of_mse).all()
    assert rates[2] > 3 * rates[0]


def test_at_the_lambdas_of_mse_the_rate_is_all_that_counts(rates_of_mse):
    rates = rates_after(60, "l1", same_lambda=True)
    assert rates[2] < 0.2 * rates_of_mse[2]
    assert rates[2] < 1.1 * rates[0]


@pytest.mark.parametrize("loss", ["mse", "ms-ssim"])
def test_losses_with_published_lambdas_keep_them(loss):
    x, costs = torch.rand(2, 3, 192, 192), []
    for same in (False, True):
        task = task_of(loss, same_lambda=same)
        torch.manual_seed(1)
        costs.append(task(x).loss.detach())
    assert torch.equal(*costs)


def trained(cgen, folder, *options):
    """One step of `cgen train`, of L1."""
    Image.fromarray(photographs.astronaut()[:96, :96]).save(folder / "a.png")
    return cgen(
        "train", "mbt2018-mean-gain-vbr", "--data", folder, "--out", folder / "run", "--metric",
        "l1", "--crop", 64, "--batch-size", 1, "--argument", "N=8", "--argument", "M=8", *options,
    )  # fmt: skip


def test_the_command_can_leave_lambda_alone(cgen, tmp_path):
    assert trained(cgen, tmp_path, "--steps", 1, "--same-lambda")[0] == 0
    file = tmp_path / "run" / "recipe.json"
    recipe = json.loads(file.read_text())
    assert recipe["same_lambda"] is True
    assert_one_line(trained(cgen, tmp_path, "--steps", 2), "same_lambda=True, asked for is False")
    del recipe["same_lambda"]  # as before there was the choice
    file.write_text(json.dumps(recipe))
    assert trained(cgen, tmp_path, "--steps", 2)[0] == 0


def criterion_of(loss, lmbda, **options):
    return CRITERIONS["PictureRateDistortionLoss"](lmbda, loss, **options)


@pytest.mark.parametrize("loss", OTHERS)
def test_compressais_lambdas_serve_every_loss(loss):
    """The weighted distortion is that of mse, but for what a loss sees otherwise."""
    x = crops()[4:8]
    x_hat = torch.nn.functional.avg_pool2d(x, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    likelihoods = {"y": torch.full((4, 8, 4, 4), 0.5)}
    found = {}
    for name, options in (("mse", {}), (loss, {}), ("same", {"same_lambda": True})):
        drawn = x_hat.clone().requires_grad_(True)
        criterion = criterion_of(loss if name == "same" else name, 0.01, **options)
        out = criterion({"x_hat": drawn, "likelihoods": likelihoods}, x)
        out["loss"].backward()
        weighted = float(out["loss"].detach() - out["bpp_loss"])
        found[name] = weighted, float(drawn.grad.norm())
    for own, wanted, left in zip(found[loss], found["mse"], found["same"], strict=True):
        assert 0.8 * wanted < own < 3 * wanted
        assert left < 0.01 * wanted


@pytest.mark.parametrize("loss", ["mse", *OTHERS])
def test_compressais_training_loop_takes_it(loss):
    """What examples/train.py does with a criterion, and reads of it."""
    torch.manual_seed(0)
    x, model = crops()[6:7], MeanScaleHyperprior(8, 8)
    criterion = criterion_of(loss, 10, same_lambda=True)
    optimizer, seen = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(100):
        optimizer.zero_grad()
        out = criterion(model(x), x)
        out["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append({name: value.item() for name, value in out.items()})
    for step in seen:
        assert step["loss"] == pytest.approx(step["bpp_loss"] + 10 * step["distortion_loss"])
    assert sum(s["loss"] for s in seen[-10:]) < 0.8 * sum(s["loss"] for s in seen[:10])
    if loss == "mse":
        assert seen[0]["distortion_loss"] == pytest.approx(255**2 * seen[0]["mse_loss"])
        stock = CRITERIONS["RateDistortionLoss"](lmbda=10)
        output = model.eval()(x)
        ours, theirs = criterion_of(loss, 10)(output, x), stock(output, x)
        assert set(theirs) <= set(ours)
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value)
