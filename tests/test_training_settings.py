"""Settings of `cgen train` that cannot be followed: one line each, before anything is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from cgen_command import Cgen, assert_one_line, names
from cgen_command import cgen as cgen
from PIL import Image
from skimage import data as photographs
from small_diffeic import small_unet, tiny_vae

from compressai_gen.cli.main import main
from compressai_gen.cli.train import parse_argument
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.plugins import registry
from compressai_gen.training.presets import remember
from compressai_gen.training.recipe import Recipe
from diffusers_codec.pipelines.diffeic import default_scheduler

TINY = ["--argument", "N=8", "--argument", "M=8", "--crop", "64", "--batch-size", "1"]
TINY += ["--minutes", "1"]  # at most, where a mistake goes unseen
TRAIN = ["train", "mbt2018-mean-gain-vbr", *TINY, "--data", "photos", "--out", "run"]


def test_help_is_the_recipes_own(capsys):
    with pytest.raises(SystemExit):
        main(["train", "prior", "--help"])
    told = capsys.readouterr().out
    assert "presets: small" in told
    assert "--teacher" in told
    assert "--target-weight" not in told


def test_list_has_a_line_for_each_recipe(capsys):
    assert main(["train", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == registry("recipes").names()
    assert all(len(line.split()) > 4 for line in lines)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one photograph to train on."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(photographs.chelsea()[100:196, 100:196]).save("photos/a.png")
    return tmp_path


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--steps", "0", "steps 0: give at least 1"),
        ("--steps", "-3", "steps -3: give at least 1"),
        ("--minutes", "inf", "minutes inf: give a finite number above 0"),
        ("--minutes", "nan", "minutes nan"),
        ("--minutes", "0", "minutes 0"),
        ("--batch-size", "0", "batch size 0: give at least 1"),
        ("--learning-rate", "-1", "learning rate -1: give a finite number, at least 0"),
        ("--muon", "nan", "muon nan"),
        ("--seed", "-5", "seed -5: give a whole number from 0 to 2147483647"),
        ("--seed", str(2**31), "seed 2147483648"),
        ("--workers", "-1", "workers -1: give a number of processes, or 0"),
        ("--argument", "foo=3", "unexpected keyword argument 'foo'; its arguments are N, "),
        ("--argument", "N=-3", "mbt2018-mean-gain-vbr cannot be built with {'N': -3"),
        ("--argument", "N", "is not NAME=VALUE with a number, a word, or a list"),
    ],
)
def test_impossible_settings(cgen: Cgen, option: str, value: str, words: str):
    assert_one_line(cgen(*TRAIN, "--steps", "1", option, value), words)
    assert names() == ["photos"]


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ("prior", ["--argument", "unet={'foo': 3}"], "UNet2DConditionModel cannot be built with"),
        ("prior", ["--argument", "unet={'norm_num_groups': 0}"], "integer modulo by zero"),
        ("prior", ["--argument", "vae={'foo': 3}"], "AutoencoderTiny cannot be built with"),
        ("prior", ["--argument", "foo=3"], "give a dictionary for vae or unet"),
        ("prior", ["--teacher", "a/b/c"], "no autoencoder a/b/c on this machine"),
        ("prior", ["--stage", "unet"], "no autoencoder in run/prior/vae: train it first"),
        ("diffeic", ["--prior", "prior", "--argument", "foo=3"], "diffeic-lfgcm cannot be built"),
        ("latent-fusion", ["--argument", "foo=3"], "argument foo: D takes width, units"),
        ("latent-fusion", ["--argument", "width=-3"], "D cannot be built with"),
    ],
)
def test_a_mistake_leaves_no_run_behind(cgen: Cgen, recipe: str, options: list[str], words: str):
    tiny_vae().save_pretrained("teacher")
    tiny_vae().save_pretrained("prior/vae")
    small_unet().save_pretrained("prior/unet")
    default_scheduler().save_pretrained("prior/scheduler")
    tiny = ["--crop", "64", "--batch-size", "1", "--minutes", "1", "--steps", "1"]
    losses = {"diffeic": [], "prior": ["--loss", "mse", "--teacher", "teacher"]}
    own = losses.get(recipe, ["--loss", "mse"])
    line = ["train", recipe, "--data", "photos", "--out", "run", *tiny, *own, *options]
    assert_one_line(cgen(*line), words)
    assert names() == ["photos", "prior", "teacher"]


def test_weight_decay_is_a_rate_too():
    with pytest.raises(OptionError, match="weight decay inf: give a finite number"):
        Recipe(weight_decay=math.inf).check()


@pytest.mark.usefixtures("work")
def test_a_run_goes_on_with_the_optimisers_it_had(cgen: Cgen):
    assert cgen(*TRAIN, "--steps", "1")[0] == 0
    before = Path("run/state.pt").read_bytes()
    assert_one_line(cgen(*TRAIN, "--steps", "2", "--muon", "0"), "run/state.pt", "same", "--muon")
    assert Path("run/state.pt").read_bytes() == before
    assert cgen(*TRAIN, "--steps", "2", "--muon", "0.01")[0] == 0  # another rate is none
    assert torch.load("run/state.pt", weights_only=True)["step"] == 2


def test_a_damaged_recipe_is_told(tmp_path):
    for damaged in ('{"argu', "[1]"):
        (tmp_path / "recipe.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=r"recipe\.json is damaged .*delete it to go on"):
            remember(Recipe(), tmp_path, ["arguments"])
        assert (tmp_path / "recipe.json").read_text() == damaged


def test_a_recipe_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    remember(Recipe(crop=128), tmp_path, ["arguments"])

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        remember(Recipe(crop=256), tmp_path, ["arguments"])
    assert names(tmp_path) == ["recipe.json"]
    assert json.loads((tmp_path / "recipe.json").read_text())["crop"] == 128


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("N=96", 96),
        ("stages=[8,8]", [8, 8]),
        ("attention=full", "full"),
        ("kind=l1-ssim", "l1-ssim"),
        ("attention='full'", "full"),
        ("attention=None", None),
    ],
)
def test_an_argument_is_a_literal_or_a_word(text: str, value: object):
    assert parse_argument(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["N", "N=", "N=1 2", "N=[1,", "N=9a"])
def test_an_argument_that_is_neither(text: str):
    with pytest.raises(OptionError, match="is not NAME=VALUE"):
        parse_argument(text)
