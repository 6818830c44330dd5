"""`cgen loss-study`: the loss paper's study, through real files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cgen_command import assert_one_line, names
from cgen_command import cgen as cgen
from PIL import Image
from quick_fits import QUICK
from skimage import data as photographs

from compressai_gen.codec import open_codec
from compressai_gen.evaluation import run as run_module
from compressai_gen.evaluation.classic import CLASSIC
from compressai_gen.evaluation.schema import Report
from compressai_gen_plugins.overfitted import study_details
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting
from compressai_gen_plugins.overfitted.coolchic_schedules import SCHEDULES
from compressai_gen_plugins.overfitted.study_details import (
    CAPTION,
    GAP,
    PANEL,
    common_rate,
    detail,
)
from compressai_gen_plugins.overfitted.study_results import NOTHING, tables

SMALL = ("--codecs", "cool-chic-v1", "--quality", "cool-chic-v1=1,4", "--preset", "draft")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two crops of photographs in the current folder, quick fits, and no weights of metrics."""
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SCHEDULES, "draft", QUICK)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photographs.chelsea()[100:132, 100:132]).save("photos/cat.png")
    Image.fromarray(photographs.coffee()[100:132, 200:232]).save("photos/cup.png")
    return tmp_path / "photos"


def study(cgen, *options):
    return cgen("loss-study", "photos", "--out", "study", *options)


def rows(name):
    with open(f"study/{name}.csv") as file:
        return list(csv.DictReader(file))


def test_results_tables_and_figure(cgen, photos, monkeypatch):
    status, out, err = study(cgen, *SMALL, "--losses", "mse,l1")
    assert status == 0, err
    assert "metric lpips-squeeze skipped" in err
    results = ["avif.json", "cool-chic-v1-l1.json", "cool-chic-v1-mse.json", "jpeg.json"]
    others = ["codecs.csv", "details.png", "files", "losses.csv", "study.png"]
    assert names("study") == sorted([*results, *others])

    content = json.loads((photos.parent / "study" / "cool-chic-v1-l1.json").read_text())
    assert content["model"]["options"] == {"loss": "l1", "preset": "draft"}
    assert content["results"]["quality"] == [1, 4]
    assert content["results"]["bpp"] == sorted(content["results"]["bpp"])
    (row,) = rows("losses")
    assert (row["codec"], row["loss"], row["against"]) == ("cool-chic-v1", "l1", "mse")
    assert float(row["psnr-rgb"]) != 0
    pairs = [(row["codec"], row["against"]) for row in rows("codecs")]
    assert pairs == [("jpeg", "cool-chic-v1"), ("avif", "cool-chic-v1"), ("avif", "jpeg")]

    def fits(*_):
        raise AssertionError("fitted again")

    monkeypatch.setattr(run_module, "_sweep", fits)
    first = Path("study/details.png").read_bytes()
    again = study(cgen, *SMALL, "--losses", "mse,l1")
    assert (again[0], again[1]) == (0, out)
    assert Path("study/details.png").read_bytes() == first


def test_details_are_from_the_files(cgen, photos, monkeypatch):
    """Also of another picture than the first, when all is measured; without what was not kept."""
    parts = ("--losses", "mse"), ("--losses", "l1", "--baselines", "")
    assert all(study(cgen, *SMALL, *part)[0] == 0 for part in parts)
    whole = ("--losses", "mse,l1", "--picture", "cup.png")
    monkeypatch.setattr(study_details, "COLUMNS", 3)
    status, _, err = study(cgen, *SMALL, *whole)
    assert (status, "details.png" in err) == (0, False)
    drawn = panels("study/details.png", [3, 1, 1])
    original = np.asarray(Image.open("photos/cup.png"))
    assert np.array_equal(drawn[0], original)
    curves = ("cool-chic-v1-mse", "jpeg", "avif", "cool-chic-v1-l1")
    assert all(map(is_from_a_file, drawn[1:], curves))

    for file in Path("study/files/jpeg").iterdir():
        file.unlink()
    (fit,) = Path("study/files/cool-chic-v1-mse").glob("cup.png-*-q4.cgen")
    fit.write_bytes(fit.read_bytes() + b"more")
    status, _, err = study(cgen, *SMALL, *whole)
    assert status == 0
    (told,) = (line for line in err.splitlines() if "details.png" in line)
    assert "details.png is without cool-chic-v1-mse, jpeg: their files were not kept" in told
    drawn = panels("study/details.png", [3])
    assert all(map(is_from_a_file, drawn[1:], ("cool-chic-v1-l1", "avif")))


def is_from_a_file(pixels, curve):
    codec = CLASSIC.get(curve) or open_codec("cool-chic-v1")
    files = Path("study/files", curve).glob("cup.png-*")
    pictures = [np.asarray(codec.decompress(file.read_bytes())) for file in files]
    return any(np.array_equal(pixels, picture) for picture in pictures)


def panels(path, rows):
    """The details on a sheet, a pixel for every square, with so many in each row."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape[1] == GAP + rows[0] * (PANEL + GAP)
    found = []
    for row, count in enumerate(rows):
        for column in range(count):
            top, left = GAP + row * (PANEL + CAPTION), GAP + column * (PANEL + GAP)
            squares = sheet[top : top + PANEL, left : left + PANEL]
            found.append(squares[::12, ::12])
            assert np.array_equal(found[-1].repeat(12, 0).repeat(12, 1), squares)
    return found


def test_details_are_of_rates_that_all_curves_come_near_to():
    assert common_rate([[0.2, 1.1, 4.0], [0.5, 1.0], [0.9, 3.0]]) == 1.0
    assert common_rate([[0.3]]) == 0.3


def test_a_detail_is_the_middle_enlarged():
    pixels = np.arange(200 * 150 * 3).astype(np.uint8).reshape(150, 200, 3)
    middle = pixels[11:139, 36:164]
    enlarged = detail(Image.fromarray(pixels))
    assert np.array_equal(enlarged[::3, ::3], middle)
    assert np.array_equal(enlarged[2::3, 1::3], middle)
    assert detail(Image.new("RGB", (100, 1))).shape == (4, 400, 3)


def test_lambda_left_alone_as_in_the_paper(cgen, photos):
    """Other losses weigh the error otherwise, and rates differ; mse does not."""
    few = ("--baselines", "", "--limit", 1, "--losses", "mse,l1", "--quality", "cool-chic-v1=3")
    rates = {}
    for own in ((), ("--same-lambda",)):
        assert study(cgen, *SMALL, *few, *own)[0] == 0
        for loss in ("mse", "l1"):
            content = json.loads(Path(f"study/cool-chic-v1-{loss}.json").read_text())
            assert content["model"]["options"].get("same_lambda") == ("true" if own else None)
            (rates[loss, bool(own)],) = content["results"]["bpp"]
    assert rates["mse", True] == pytest.approx(rates["mse", False], rel=0.1)
    assert rates["l1", True] > 1.1 * rates["l1", False]


def test_finished_fits_are_read_from_states(cgen, photos, monkeypatch):
    """Which result files do not name: files are the same without."""
    command = (*SMALL, "--losses", "mse", "--baselines", "jpeg", "--limit", 1, "--state", "states")
    assert study(cgen, *command)[0] == 0
    first = json.loads(Path("study/cool-chic-v1-mse.json").read_text())
    assert first["model"]["options"] == {"loss": "mse", "preset": "draft"}
    shutil.rmtree("study")
    monkeypatch.setattr(Fitting, "step", lambda *_: pytest.fail("fitted again"))
    assert study(cgen, *command)[0] == 0
    again = json.loads(Path("study/cool-chic-v1-mse.json").read_text())
    assert again["results"]["bpp"] == first["results"]["bpp"]


def test_what_was_measured_otherwise_is_measured_anew(cgen, photos, monkeypatch):
    few = ("--losses", "mse", "--baselines", "", "--quality", "cool-chic-v1=1")
    assert study(cgen, *SMALL, *few)[0] == 0
    swept = []
    sweep = run_module._sweep
    monkeypatch.setattr(run_module, "_sweep", lambda *a: swept.append(1) or sweep(*a))
    assert study(cgen, *SMALL, *few)[0] == 0
    assert not swept
    assert study(cgen, *SMALL, *few, "--limit", 1)[0] == 0
    assert study(cgen, *SMALL, *few, "--limit", 1, "--quality", "cool-chic-v1=2")[0] == 0
    assert len(swept) == 2


def test_a_fit_goes_on_from_a_higher_quality(cgen, photos):
    """As `encoder` makes it, which differs from a fit by itself."""
    few = ("--losses", "mse", "--baselines", "", "--limit", 1)
    assert study(cgen, *SMALL, *few)[0] == 0
    content = json.loads((photos.parent / "study" / "cool-chic-v1-mse.json").read_text())
    codec, cat = open_codec("cool-chic-v1"), Image.open(photos / "cat.png")
    encode = codec.encoder(cat, preset="draft", loss="mse")
    large, small = (len(encode(quality)) for quality in (4, 1))
    assert content["results"]["bpp"] == [8 * size / (32 * 32) for size in (small, large)]
    assert len(codec.compress(cat, quality=1, preset="draft", loss="mse")) != small


def curve(rates, psnr):
    return Report("", "", {"bpp": rates, "psnr-rgb": psnr})


def test_bd_rates_are_against_the_first_loss_and_the_codec_before():
    same, half = curve([0.2, 0.4, 0.8], [30, 33, 36]), curve([0.1, 0.2, 0.4], [30, 33, 36])
    beyond = curve([4.0, 8.0], [50, 60])
    curves = {("a", "mse"): same, ("a", "l1"): half, ("b", "mse"): half, ("jpeg", ""): beyond}
    found = tables(curves, ["psnr-rgb"])
    assert found["losses"] == [{"codec": "a", "loss": "l1", "against": "mse", "psnr-rgb": "-50.0"}]
    rates = {(row["codec"], row["against"]): row["psnr-rgb"] for row in found["codecs"]}
    assert rates == {("b", "a"): "-50.0", ("jpeg", "a"): NOTHING, ("jpeg", "b"): NOTHING}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codecs", "jpeg"), "--codecs jpeg: give some of nif, cool-chic-v1, cool-chic-v2"),
        (("--codecs", ""), "give at least one"),
        (("--losses", "mse,l3"), "l3"),
        (("--losses", "mse,lpips-vgg", "--weights", "photos"), "name its folder by COMPRESSAI_GEN"),
        (("--baselines", "gif"), "unknown baseline 'gif'"),
        (("--quality", "nif"), "--quality nif: give it as in cool-chic-v2=1,2.5,4"),
        (("--quality", "nif=a"), "--quality nif=a"),
        (("--preset", "quick"), "quick"),
        (("--quality", "nif=9"), "nif has no quality 9"),
        (("--picture", "cut.png"), "unknown picture 'cut.png'; did you mean"),
    ],
)
def test_mistakes_are_told_before_any_fit(cgen, photos, options, message):
    assert_one_line(study(cgen, *options), message)
    assert not (photos.parent / "study").exists()


def test_losses_side_by_side(cgen, photos):
    """The study of the loss paper: a list of losses, a result file each."""
    evaluate = ("evaluate", "photos", "--codec", "cool-chic-v1", "--quality", 2, "--out", "r.json")
    options = ("--metrics", "psnr-rgb", "--preset", "draft", "--loss")
    status, _, err = cgen(*evaluate, *options, "mse,l1")
    assert status == 0, err
    read = [
        json.loads((photos.parent / f"r-loss{name}.json").read_text()) for name in ("mse", "l1")
    ]
    assert [r["name"] for r in read] == ["cool-chic-v1-lossmse", "cool-chic-v1-lossl1"]
    results = [r["results"] for r in read]
    assert results[0]["bpp"] != results[1]["bpp"]
    assert 0 < results[0]["network-bpp"][0] < results[0]["bpp"][0]
    assert read[1]["model"]["options"] == {"preset": "draft", "loss": "l1"}
    assert_one_line(cgen(*evaluate, "--tau", 0.5), "no option --tau")
