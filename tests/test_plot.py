"""`cgen plot`: a picture of result files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from compressai_gen.cli.main import main
from compressai_gen.evaluation.plot import draw
from compressai_gen.evaluation.schema import Report, read_reports

OURS = Report(
    "ours",
    "",
    {"bpp": [0.4, 0.1], "psnr-rgb": [33, 28], "ms-ssim-rgb": [0.99, 0.9], "lpips-x": [0.1, 0.4]},
)
JPEG = Report("jpeg", "", {"bpp": [0.2, 0.5], "psnr-rgb": [27, 30]})


@pytest.fixture
def files(tmp_path):
    paths = []
    for report in (OURS, JPEG):
        paths.append(tmp_path / f"{report.name}.json")
        paths[-1].write_text(report.to_json())
    return list(map(str, paths))


def test_curves_are_sorted_named_and_labelled():
    axes = draw([OURS, JPEG], "psnr-rgb").axes[0]
    assert [line.get_label() for line in axes.lines] == ["ours", "jpeg"]
    assert list(axes.lines[0].get_xdata()) == [0.1, 0.4]
    assert list(axes.lines[0].get_ydata()) == [28, 33]
    assert axes.get_xlabel() == "rate [bits per pixel]"
    assert axes.get_ylabel() == "psnr-rgb [dB]"


def test_ms_ssim_is_drawn_in_decibels():
    axes = draw([OURS], "ms-ssim-rgb").axes[0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([10, 20])
    assert axes.get_ylabel() == "ms-ssim-rgb [dB]"


def test_lower_is_better_is_said():
    assert "lower is better" in draw([OURS], "lpips-x").axes[0].get_ylabel()


def test_a_plane_carries_the_rates():
    axes = draw([OURS], "lpips-x", "psnr-rgb").axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.10", "0.40"]
    assert axes.get_xlabel() == "psnr-rgb [dB]"


def test_the_rates_of_a_plane_stay_inside_its_frame():
    dear = replace(OURS, results={**OURS.results, "bpp": [10.4, 10.1]})
    axes = draw([dear], "lpips-x", "psnr-rgb").axes[0]
    axes.figure.draw_without_rendering()
    right = axes.get_window_extent().x1
    assert all(text.get_window_extent().x1 < right - 5 for text in axes.texts)


def test_files_of_one_codec_are_told_apart(tmp_path):
    jpeg = replace(JPEG, model={"codec": "jpeg"})
    paths = [tmp_path / name for name in ("a.json", "b.json", "b/a.json", "ours.json")]
    paths[2].parent.mkdir()
    for path in paths:
        path.write_text((OURS if path.stem == "ours" else jpeg).to_json())
    assert [r.name for r in read_reports(paths[1:])] == ["b", "a", "ours"]
    assert [r.name for r in read_reports(paths[:3])] == [str(paths[0]), "b", str(paths[2])]
    drawn = draw(read_reports(paths[1:]), "psnr-rgb").axes[0].lines
    assert [line.get_linestyle() for line in drawn] == ["--", "--", "-"]


@pytest.mark.parametrize("name", ["rd.png", "rd.svg", "rd.pdf"])
def test_command_writes_a_picture(files, tmp_path, name):
    assert main(["plot", *files, "--out", str(tmp_path / name), "--title", "Two"]) == 0
    assert (tmp_path / name).stat().st_size > 1000
    if name.endswith(".png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 500


def test_standard_output_gets_the_picture_alone(files, capsysbinary):
    assert main(["plot", *files, "--out", "-", "--dpi", "50"]) == 0
    assert capsysbinary.readouterr().out.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "lpips-x"], "jpeg has no lpips-x; it has bpp, psnr-rgb"),
        (["--plane", "psnr-rgb"], "give two metrics"),
        (["--out", "rd.gif"], "ends in .png, .svg or .pdf"),
        (["--out", "no/rd.png"], "does not exist"),
        (["--dpi", "0"], "give 10 to 1200"),
    ],
)
def test_mistakes_get_one_line(files, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *files, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("rd*"))


def test_a_file_that_is_missing(capsys, tmp_path):
    assert main(["plot", str(tmp_path / "no.json")]) == 1
    assert "no.json cannot be read: No such file" in capsys.readouterr().err


def test_compressais_plain_files_are_drawn(tmp_path):
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"bpp": [], "psnr-rgb": []}))
    assert main(["plot", str(path), "--out", str(tmp_path / "rd.png")]) == 1
    path.write_text(json.dumps({"bpp": [1, 2], "psnr-rgb": [30, 33]}))
    assert main(["plot", str(path), "--out", str(tmp_path / "rd.png")]) == 0
