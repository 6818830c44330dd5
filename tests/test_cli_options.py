"""Options that plugins add to `cgen compress` and `decompress`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cgen_command import Cgen, assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from toys import MeanColour, empty_registries, register_grey, register_mean_colour


@pytest.mark.usefixtures("work")
def test_options_of_a_file_codec(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    register_mean_colour(empty_registries(monkeypatch)[0])
    base = ("compress", "photo.png", "a.cgen", "--codec", "mean-colour")
    assert cgen(*base, "--gain", "0.5")[0] == 0
    dark = MeanColour().decompress(Path("a.cgen").read_bytes(), output_type="np")
    assert cgen(*base)[0] == 0
    light = MeanColour().decompress(Path("a.cgen").read_bytes(), output_type="np")
    assert np.abs(light / 2 - dark).max() < 1
    assert json.loads(cgen("info", "a.cgen", "--json")[1])["codec"] == "mean-colour"
    assert cgen("decompress", "a.cgen", "a.png")[0] == 0
    assert_one_line(cgen(*base, "--gain", "3"), "--gain 3 is not in 0..2")
    assert_one_line(cgen(*base, "--gain", "loud"), "--gain loud: give a number")
    assert_one_line(cgen("compress", "photo.png", "--gain", "1"), "no option --gain")
    declared_for_compress_only = cgen("decompress", "a.cgen", "--gain", "1")
    assert_one_line(declared_for_compress_only, "decompress", "unrecognized arguments: --gain 1")


@pytest.mark.usefixtures("work")
def test_options_of_an_enhancer(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    register_grey(empty_registries(monkeypatch)[1])
    cgen("compress", "photo.png")
    assert cgen("decompress", "photo.cgen", "grey.png", "--tau", "0")[0] == 0
    assert np.unique(np.asarray(Image.open("grey.png"))).tolist() == [128]
    cgen("compress", "photo.png", "--tau", "0")
    cgen("decompress", "photo.cgen", "wish.png")
    assert np.unique(np.asarray(Image.open("wish.png"))).tolist() == [128]
    with pytest.raises(SystemExit):
        cgen("compress", "--help")


@pytest.mark.usefixtures("work")
def test_what_the_enhancer_was_given_is_told(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    register_grey(empty_registries(monkeypatch)[1])
    assert "grey" not in cgen("compress", "photo.png")[1]
    told = json.loads(cgen("decompress", "photo.cgen", "a.png", "--json")[1])
    assert told[0]["enhancer"] is None
    assert "  grey, tau 0.25, preset fast  " in cgen("compress", "photo.png", "--tau", "0.25")[1]
    assert "  grey, tau 0.251, preset fast  " in cgen("decompress", "photo.cgen", "a.png")[1]
    told = json.loads(cgen("decompress", "photo.cgen", "a.png", "--tau", "1", "--json")[1])
    assert told[0]["enhancer"] == {"name": "grey", "tau": 1.0, "preset": "fast"}


def test_help_names_the_options(cgen: Cgen, monkeypatch: pytest.MonkeyPatch, capsys):
    codecs, enhancers = empty_registries(monkeypatch)
    register_mean_colour(codecs)
    register_grey(enhancers)
    with pytest.raises(SystemExit):
        cgen("compress", "--help")
    told = capsys.readouterr().out
    assert "--gain X" in told
    assert "brightness [mean-colour, default 1.0]" in " ".join(told.split())
    assert "--tau X" in told
