"""Training: data, loss weights, schedule, averages, resume after a kill, several processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from compressai_gen.errors import ImageError, OptionError
from compressai_gen.losses.rate_distortion import (
    balanced_weights,
    bits_per_pixel,
    mse,
    rate_distortion,
)
from compressai_gen.training.data import PhotoCrops
from compressai_gen.training.ema import MovingAverage
from compressai_gen.training.loop import Losses, Task, Trainer, schedule
from compressai_gen.training.optimizers import Optimizers
from compressai_gen.training.presets import remember
from compressai_gen.training.rate_distortion import at_quality
from compressai_gen.training.recipe import Recipe, VariableRateRecipe

TINY = ["--argument", "N=8", "--argument", "stages=[8,8,8]", "--crop", "64", "--batch-size", "2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three smooth pictures, one of them too small to be used."""
    folder = tmp_path_factory.mktemp("photos")
    rows, columns = np.mgrid[0:160, 0:200] / 200
    for i, name in enumerate(["a.png", "b.webp", "small.png"]):
        picture = np.stack([rows, columns, (rows + i) % 1], axis=2)
        size = 40 if name == "small.png" else 200
        Image.fromarray((255 * picture[:size, :size]).astype("uint8")).save(folder / name)
    return folder


def train_command(photos, out, *options, launcher=()):
    start = [sys.executable, *launcher, "-m", "compressai_gen", "train", "cheng2020-anchor-vbr"]
    return [*start, "--data", str(photos), "--out", str(out), *TINY, *options]


def test_crops_are_a_function_of_seed_and_index(photos):
    first, again = PhotoCrops(photos, 64, seed=1), PhotoCrops(photos, 64, seed=1)
    assert len(first.files) == 2
    assert torch.equal(first[5], again[5])
    assert not torch.equal(first[5], first[6])
    assert not torch.equal(first[5], PhotoCrops(photos, 64, seed=2)[5])
    assert first[5].shape == (3, 64, 64)
    assert first[5].min() >= 0
    assert first[5].max() <= 1


def test_no_picture_large_enough(photos):
    with pytest.raises(ImageError, match="512x512"):
        PhotoCrops(photos, 512)


def test_loss_is_rate_plus_weighted_distortion():
    x, x_hat = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 1 / 255)
    likelihoods = {"y": torch.full((2, 1, 4, 4), 0.5), "z": torch.full((2, 2, 1, 4), 0.25)}
    cost = rate_distortion(
        {"x_hat": x_hat, "likelihoods": likelihoods},
        x,
        torch.tensor([1.0, 3.0]),
        torch.tensor([1.0, 0.5]),
        mse,
    )
    torch.testing.assert_close(cost.distortion, torch.ones(2))
    torch.testing.assert_close(cost.bits_per_pixel, torch.full((2,), (16 + 16) / 16))
    torch.testing.assert_close(cost.loss, torch.tensor((2 + 1 + 0.5 * (2 + 3)) / 2))
    assert bits_per_pixel(likelihoods, x).shape == (2,)


def test_balanced_weights():
    weights = balanced_weights(torch.tensor([0.01, 0.04, 0.16]))
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights[0] / weights[2], torch.tensor(4.0))


def test_values_between_rate_points():
    values = torch.tensor([1.0, 2.0, 4.0])
    quality = torch.tensor([0.0, 0.5, 1.25, 2.0])
    torch.testing.assert_close(at_quality(values, quality), torch.tensor([1.0, 1.5, 2.5, 4.0]))


def test_schedule():
    assert schedule(0.0, 0.1, 0.5) == 0.01
    assert schedule(0.05, 0.1, 0.5) == 0.5
    assert schedule(0.3, 0.1, 0.5) == 1
    assert schedule(0.75, 0.1, 0.5) == pytest.approx(0.505)
    assert schedule(1.0, 0.1, 0.5) == pytest.approx(0.01)


def test_moving_average_forgets_the_start():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(100.0)
    average = MovingAverage(model, decay=0.9)
    model.weight.data.fill_(1.0)
    for _ in range(200):
        average.update(model)
    average.copy_to(model)
    assert model.weight.item() == pytest.approx(1.0, abs=1e-4)


def two_layers():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 8, 1))
    model[1].register_parameter("quantiles", torch.nn.Parameter(torch.zeros(1)))
    return model


def test_muon_moves_convolutions_along_orthogonal_matrices():
    """All singular values of an update are alike, whatever those of the gradient are."""
    model = two_layers()
    before = [p.detach().clone() for p in model.parameters()]
    optimizers = Optimizers(model, learning_rate=1e-3, muon=0.1)
    model(torch.rand(2, 3, 8, 8)).square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    optimizers.step()
    for i in (0, 2):
        update = (list(model.parameters())[i].detach() - before[i]).flatten(1)
        values = torch.linalg.svdvals(update)
        assert values.max() / values.min() < 2.5
        spread = torch.linalg.svdvals(gradients[i].flatten(1))
        assert spread.max() / spread.min() > 5
        assert (update * gradients[i].flatten(1)).sum() < 0
    for i in (1, 3):  # biases: Adam's first step is the learning rate
        step = (list(model.parameters())[i].detach() - before[i]).abs()
        torch.testing.assert_close(step, torch.full_like(step, 1e-3), rtol=1e-2, atol=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_optimizers_go_on_where_they_were():
    def run(model, optimizers, steps):
        for _ in range(steps):
            model(torch.ones(1, 3, 4, 4)).square().mean().backward()
            optimizers.step()

    straight, first, second = two_layers(), two_layers(), two_layers()
    run(straight, Optimizers(straight, 1e-3, 0.01), 6)
    before = Optimizers(first, 1e-3, 0.01)
    run(first, before, 3)
    after = Optimizers(second, 1e-3, 0.01)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    run(second, after, 3)
    for a, b in zip(straight.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_recipe_changes_ignore_none():
    recipe = Recipe(crop=128)
    assert recipe.replace(crop=None, minutes=3).crop == 128
    assert recipe.replace(minutes=3).minutes == 3


def test_presets_of_the_built_in_models():
    from compressai_gen.plugins import registry

    for name in registry("recipes"):
        recipes = registry("recipes").load(name)
        assert recipes.preset(None) is next(iter(recipes.presets.values()))
        assert "FOLDER" in recipes.usage("FOLDER")
        for recipe in recipes.presets.values():
            if name == "diffeic":  # the one recipe that has no default for what it starts from
                recipe = replace(recipe, prior="folder")
            recipe.check()
            if isinstance(recipe, VariableRateRecipe):
                assert list(recipe.multipliers) == sorted(recipe.multipliers)
                assert len(recipe.multipliers) == 10
    paper = registry("recipes").load("cheng2020-anchor-vbr").preset("ms-ssim")
    assert (paper.multipliers[0], paper.multipliers[-1]) == (0.005, 50)
    with pytest.raises(KeyError, match="ms-ssim"):
        registry("recipes").load("cheng2020-anchor-vbr").preset("msssim")


def rows(out):
    with (out / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_train_resumes_after_a_kill(photos, tmp_path):
    """Killed without warning, the same command goes on from the last saved state."""
    out = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COMPRESSAI_GEN_SAVE_SECONDS": "0.5"}
    command = train_command(photos, out, "--minutes", "60")
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 120
    while not (out / "state.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, (tmp_path / "output").read_text()
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(out / "state.pt", weights_only=True)["step"]
    assert step > 0
    more = train_command(photos, out, "--steps", str(step + 60))
    done = subprocess.run(more, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = [int(r["step"]) for r in rows(out)]
    assert steps == sorted(steps)
    assert steps[-1] <= step + 60
    assert torch.load(out / "state.pt", weights_only=True)["step"] == step + 60
    assert json.loads((out / "checkpoint" / "config.json").read_text())["arguments"]["N"] == 8


def test_an_interrupted_run_keeps_every_step(photos, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        train_command(photos, out, "--minutes", "60"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
    )
    deadline = time.monotonic() + 120
    while not ((out / "log.csv").exists() and rows(out)) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.rstrip().endswith("cgen: interrupted, nothing was left half-written")
    assert torch.load(out / "state.pt", weights_only=True)["step"] >= 50


def test_two_processes_under_accelerate_launch(photos, tmp_path):
    out = tmp_path / "run"
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = train_command(photos, out, "--steps", "4", launcher=launcher)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes" in done.stderr
    assert (out / "checkpoint" / "config.json").exists()


def test_loss_falls(photos, tmp_path):
    """A real, if short, run: the loss of the last row is well below that of the first."""
    done = subprocess.run(
        train_command(photos, tmp_path / "run", "--steps", "150", "--learning-rate", "2e-3"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    loss = [float(r["loss"]) for r in rows(tmp_path / "run")]
    assert loss[-1] < 0.7 * loss[0]


class Watching(Task):
    """Keeps the type its model computed in."""

    def __init__(self):
        super().__init__("watching", torch.nn.Conv2d(3, 1, 1))

    def forward(self, x):
        y = self.model(x)
        self.computed_in = y.dtype
        error = y.float().square().mean((1, 2, 3))
        return Losses(error.mean(), {"loss": error})


def test_runs_of_one_process_each_in_their_own_precision(photos, tmp_path):
    """As in a notebook; accelerate's own setting is one for all of a process."""
    for out, (autocast, wanted) in enumerate(
        (("bf16", torch.bfloat16), ("no", torch.float32), ("bf16", torch.bfloat16))
    ):
        task, recipe = Watching(), Recipe(autocast=autocast, crop=64, batch_size=1)
        Trainer(task, recipe, photos, tmp_path / str(out), max_steps=1).train()
        assert task.computed_in == wanted
        assert all(parameter.dtype == torch.float32 for parameter in task.parameters())


def test_a_run_of_another_model_is_not_continued(tmp_path):
    remember(Recipe(arguments={"N": 8}), tmp_path, ["arguments"])
    remember(Recipe(arguments={"N": 8}, crop=128), tmp_path, ["arguments"])
    with pytest.raises(OptionError, match="arguments"):
        remember(Recipe(arguments={"N": 16}), tmp_path, ["arguments"])
