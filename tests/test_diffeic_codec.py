"""DiffEIC on the command line and as a codec: files find their pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from small_diffeic import small_pipeline

from compressai_gen import codec_for, open_codec
from compressai_gen.errors import CheckpointError
from compressai_gen_plugins.diffeic.codec import DiffEICCodec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipelines") / "diffeic"
    small_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def known(folder, work, monkeypatch):
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(folder))
    return folder


def pixels(path):
    return np.asarray(Image.open(path), dtype=int)


def test_a_picture_there_and_back(cgen, known):
    status, _, err = cgen("compress", "photo.png", "a.cgen", "--codec", "diffeic")
    assert status == 0, err
    for name, options in {
        "a.png": ("--steps", 2),
        "b.png": ("--steps", 2, "--scheduler", "dpm-solver"),
        "c.png": ("--steps", 2, "--start", 0.3),
        "d.png": ("--steps", 0),
    }.items():
        status, _, err = cgen("decompress", "a.cgen", name, *options)
        assert status == 0
        assert "it/s" not in err  # no bar but at a terminal
        assert Image.open(name).size == Image.open("photo.png").size
    pictures = {pixels(f"{name}.png").tobytes() for name in "abcd"}
    assert len(pictures) == 4
    status, out, _ = cgen("info", "a.cgen")
    assert status == 0
    assert "diffeic-lfgcm, through --codec diffeic\n" in out


def test_the_wish_of_the_sender(cgen, known):
    assert cgen("compress", "photo.png", "a.cgen", "--codec", "diffeic", "--steps", 1)[0] == 0
    assert cgen("decompress", "a.cgen", "a.png")[0] == 0
    assert cgen("decompress", "a.cgen", "b.png", "--steps", 1)[0] == 0
    assert np.array_equal(pixels("a.png"), pixels("b.png"))


def test_the_checkpoint_can_be_the_pipeline_or_its_codec(work, folder):
    for checkpoint in (folder, folder / "codec"):
        data = open_codec("diffeic", checkpoint=checkpoint).compress(Image.open("photo.png"))
        for codec in (
            codec_for(data, checkpoint=checkpoint),
            open_codec(checkpoint=checkpoint),
            open_codec("diffeic-lfgcm", checkpoint=checkpoint),
        ):
            assert isinstance(codec, DiffEICCodec)
    with pytest.raises(CheckpointError, match="not a mbt2018-mean"):
        open_codec("mbt2018-mean", checkpoint=folder)


def test_a_sweep_over_steps(cgen, known):
    evaluate = ("evaluate", ".", "--codec", "diffeic", "--checkpoint", known)
    evaluate += ("--metrics", "psnr-rgb", "--out", "r.json")
    status, _, err = cgen(*evaluate, "--steps", "0,2")
    assert status == 0, err
    results = [json.loads(Path(f"r-steps{n}.json").read_text())["results"] for n in (0, 2)]
    assert results[0]["bpp"] == results[1]["bpp"]  # the same files
    assert results[0]["psnr-rgb"] != results[1]["psnr-rgb"]
    assert 0 < results[0]["hyper-share"][0] < 1
    assert results[0]["content-distance"][0] > 0
    assert results[0]["vae-psnr"][0] > 5
    assert_one_line(cgen(*evaluate, "--steps", "0,many"), "--steps many")


def test_mistakes_are_told(cgen, known, folder, monkeypatch):
    photo = ("compress", "photo.png", "x.cgen", "--codec", "diffeic")
    assert_one_line(cgen(*photo, "--quality", 2), "one fixed rate")
    assert cgen(*photo)[0] == 0
    back = ("decompress", "x.cgen", "x.png")
    assert_one_line(cgen(*back, "--steps", 1, "--scheduler", "ddmp"), "ddpm")
    assert_one_line(cgen(*back, "--steps", -1), "--steps")
    assert_one_line(cgen(*back, "--steps", 20, "--start", 0.01), "at most 10")
    monkeypatch.delenv("COMPRESSAI_GEN_CHECKPOINTS")
    assert_one_line(cgen(*back), "not on this machine")
    assert_one_line(cgen("compress", "photo.png", "y.cgen", "--codec", "diffeic"), "--checkpoint")
