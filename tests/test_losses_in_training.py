"""The losses of pictures in other trainings: `cgen train`, and the loop of CompressAI's script."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from cgen_command import cgen as cgen
from compressai.models import MeanScaleHyperprior
from compressai.registry import CRITERIONS
from PIL import Image
from skimage import data as photographs

import compressai_gen  # noqa: F401  (fills the registries)


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


@pytest.mark.parametrize("loss", ["mse", "l1", "log-cosh", "lc-ssim", "l1-ssim", "rmse"])
def test_compressais_training_loop_takes_it(loss):
    """What examples/train.py does with a criterion, and reads of it."""
    torch.manual_seed(0)
    x = torch.from_numpy(photographs.astronaut()[:64, 180:244].copy()).permute(2, 0, 1)[None] / 255
    model, criterion = MeanScaleHyperprior(8, 8), CRITERIONS["PictureRateDistortionLoss"](10, loss)
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
        ours, theirs = criterion(output, x), stock(output, x)
        assert set(theirs) <= set(ours)
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value)
