"""Metrics: known values, properties, and what happens without weights."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data import needs, shared_data
from scipy.ndimage import convolve, gaussian_filter
from scipy.special import gamma
from skimage import data as photographs

from compressai_gen.errors import CheckpointError, ImageError, MissingWeightsError, UnknownNameError
from compressai_gen.metrics import niqe
from compressai_gen.metrics.lpips import LpipsAlex, LpipsSqueeze
from compressai_gen.metrics.ms_ssim import MsSsimRgb
from compressai_gen.metrics.psnr import PsnrRgb
from compressai_gen.metrics.weights import VARIABLE, find_weights
from compressai_gen.plugins import registry


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """Neither the variable nor a torch cache."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture(scope="module")
def weights() -> Path:
    return shared_data() / "weights"


def tensor(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return photographs.astronaut()[:288, :384]


def test_every_registered_metric_declares_itself():
    for name in registry("metrics"):
        metric = registry("metrics").load(name)
        assert metric.name == name
        assert isinstance(metric.higher_is_better, bool)


def test_looking_up_a_metric_imports_no_torch():
    code = (
        "import sys; from compressai_gen.plugins import registry\n"
        "[registry('metrics').load(name) for name in registry('metrics')]\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_metric_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="psnr-rgb"):
        registry("metrics").load("psnr-rgv")


def test_psnr_of_a_constant_difference():
    a, b = torch.zeros(1, 3, 4, 6), torch.full((1, 3, 4, 6), 0.1)
    assert PsnrRgb()(a, b) == pytest.approx(20)
    assert PsnrRgb()(a, a) == math.inf


def test_ms_ssim_is_one_for_equal_pictures_and_falls_with_noise(photo):
    x = tensor(photo)
    noisy = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert MsSsimRgb()(x, x) == pytest.approx(1)
    assert 0.3 < MsSsimRgb()(x, noisy) < 0.95


@pytest.mark.parametrize("side", [160, 161])
def test_ms_ssim_needs_five_scales(side):
    x = torch.rand(1, 3, side, 300)
    if side > 160:
        assert MsSsimRgb()(x, x) == pytest.approx(1)
    else:
        with pytest.raises(ImageError, match=r"at least 161 pixels .* 300x160"):
            MsSsimRgb()(x, x)


def test_shapes_must_agree():
    with pytest.raises(ImageError, match=r"\[1, 3, 8, 8\] and \[1, 3, 8, 9\]"):
        PsnrRgb()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))


def test_missing_weights_say_where_they_were_looked_for(no_weights):
    with pytest.raises(MissingWeightsError) as caught:
        LpipsAlex(weights=no_weights / "mine")
    for word in ("alexnet", "mine", str(no_weights / "torch" / "hub"), VARIABLE, "--weights"):
        assert word in str(caught.value)


def test_weights_are_found_by_flag_then_variable_then_cache(no_weights, monkeypatch):
    names = ("lpips/a.pth", "a-123.pth")
    cache = no_weights / "torch/hub/checkpoints"
    listed = no_weights / "listed"
    given = no_weights / "given" / "lpips"
    for folder in (cache, listed, given):
        folder.mkdir(parents=True)
    (cache / "a-123.pth").touch()
    assert find_weights("x", names) == cache / "a-123.pth"
    (listed / "a.pth").touch()
    monkeypatch.setenv(VARIABLE, str(listed))
    assert find_weights("x", names) == listed / "a.pth"
    (given / "a.pth").touch()
    assert find_weights("x", names, given.parent) == given / "a.pth"


@needs("weights", "lpips", "squeeze.backbone.pth")
def test_lpips_squeeze_gives_the_published_value(weights, capsys):
    """0.1008 is the value in torchmetrics' docstring."""
    metric = LpipsSqueeze(weights=weights)
    torch.manual_seed(123)
    first, second = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    pairs = zip(first.split(1), second.split(1), strict=True)
    mean = sum(metric(x, y) for x, y in pairs) / 10
    assert mean == pytest.approx(0.1008, abs=5e-5)
    assert capsys.readouterr().out == ""


@needs("weights", "lpips", "squeeze.backbone.pth")
def test_a_trunk_of_another_network_is_refused(weights, tmp_path):
    trunk = weights / "lpips" / "squeeze.backbone.pth"
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(trunk.read_bytes())
    with pytest.raises(CheckpointError, match="not this LPIPS trunk"):
        LpipsAlex(weights=tmp_path)


@needs("weights", "niqe", "niqe_pris_params.npz")
class TestNiqe:
    def test_photographs_score_well_and_distortions_worse(self, weights, photo):
        metric = niqe.Niqe(weights=weights)
        noise = np.random.default_rng(0).normal(0, 20, photo.shape)
        pictures = {
            "original": photo,
            "blurred": gaussian_filter(photo, (2, 2, 0)),
            "noisy": np.clip(photo + noise, 0, 255).round().astype(np.uint8),
        }
        scores = {name: metric(tensor(rgb), tensor(rgb)) for name, rgb in pictures.items()}
        assert 2 < scores["original"] < 5
        assert scores["blurred"] > scores["original"] + 1
        assert scores["noisy"] > scores["original"] + 1

    def test_agrees_with_a_plain_implementation(self, weights, photo):
        grey = niqe.luminance(photo.transpose(2, 0, 1).astype(float))
        with np.load(weights / "niqe" / "niqe_pris_params.npz") as model:
            window = model["gaussian_window"]
        mean = convolve(grey, window, mode="nearest")
        deviation = np.sqrt(abs(convolve(grey**2, window, mode="nearest") - mean**2))
        coefficients = (grey - mean) / (deviation + 1)
        assert np.allclose(niqe.normalised(grey), coefficients)
        fast = niqe.patch_features(niqe.patches(coefficients, 96))
        plain = [plain_features(coefficients[r : r + 96, c : c + 96])
                 for r in (0, 96, 192) for c in (0, 96, 192, 288)]  # fmt: skip
        assert np.allclose(fast, plain, atol=2e-3)  # the plain one searches a grid of alpha

    def test_halving_keeps_means_and_removes_what_would_alias(self):
        assert np.allclose(niqe.halved(np.full((8, 10), 7.0)), 7)
        ramp = np.tile(np.arange(32.0), (4, 1))
        assert np.allclose(niqe.halved(ramp)[0, 4:12], np.arange(8, 24, 2) + 0.5)
        checkers = np.indices((32, 32)).sum(axis=0) % 2 * 2.0 - 1
        assert abs(niqe.halved(checkers)[4:12, 4:12]).max() < 1e-12

    def test_flat_and_small_pictures_are_refused(self, weights):
        metric = niqe.Niqe(weights=weights)
        for height, width in ((192, 192), (96, 96)):
            grey = torch.full((1, 3, height, width), 0.5)
            with pytest.raises(ImageError, match="two 96x96 patches"):
                metric(grey, grey)
        with pytest.raises(ImageError, match="at least 96"):
            metric(torch.rand(1, 3, 95, 400), torch.rand(1, 3, 95, 400))


def plain_features(patch: np.ndarray) -> list[float]:
    """18 features of one patch by loops and a grid search, as the papers' programs do."""
    shape, left, right = plain_fit(patch)
    features = [shape, (left + right) / 2]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = np.roll(np.roll(patch, down, axis=0), across, axis=1)
        shape, left, right = plain_fit(patch * neighbour)
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        features += [shape, mean, left, right]
    return features


def plain_fit(samples: np.ndarray) -> tuple[float, float, float]:
    grid = np.arange(0.2, 10.001, 0.001)
    moments = gamma(2 / grid) ** 2 / (gamma(1 / grid) * gamma(3 / grid))
    left = np.sqrt(np.mean(samples[samples < 0] ** 2))
    right = np.sqrt(np.mean(samples[samples > 0] ** 2))
    skew = left / right
    ratio = np.mean(abs(samples)) ** 2 / np.mean(samples**2)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = grid[np.argmin((moments - ratio) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
