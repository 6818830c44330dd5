"""`cgen evaluate`: real files, another process, CompressAI's schema, resuming, clear refusals."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from compressai_gen.cli.main import main
from compressai_gen.errors import CodecError, OptionError
from compressai_gen.evaluation import run as run_module
from compressai_gen.evaluation.cache import RecordCache
from compressai_gen.evaluation.classic import CLASSIC, ClassicCodec
from compressai_gen.evaluation.codecs import CodecSpec, RatePoint, rate_points
from compressai_gen.evaluation.decoder import Decoder
from compressai_gen.evaluation.protocol import Dataset, short768crop768
from compressai_gen.evaluation.run import Plan, make_sweeps
from compressai_gen.evaluation.schema import Record, Report, read_report, summarise


@pytest.fixture(scope="module")
def photos() -> dict[str, Image.Image]:
    """Two small crops of photographs."""
    return {
        "cat.png": Image.fromarray(photographs.chelsea()[60:240, 100:300]),
        "sub/cup.png": Image.fromarray(photographs.coffee()[100:300, 200:380]),
    }


@pytest.fixture
def folder(photos, tmp_path) -> Path:
    for name, image in photos.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "README.txt").write_text("not a picture")
    return tmp_path / "photos"


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def evaluate(folder: Path, *more: str) -> dict:
    output = folder.parent / "F.json"
    command = ["evaluate", str(folder), "--codec", "jpeg", "--quality", "20,60", *more]
    assert main([*command, "--out", str(output)]) == 0
    return json.loads(output.read_text())


def test_figures_are_those_of_real_files(folder, photos, capsys, no_weights):
    content = evaluate(
        folder, "--metrics", "psnr-rgb,ms-ssim-rgb,lpips-alex", "--baselines", "webp"
    )
    bpp, psnr = [], []
    for image in photos.values():
        data = CLASSIC["jpeg"].compress(image, quality=20)
        decoded = np.asarray(CLASSIC["jpeg"].decompress(data), dtype=float)
        bpp.append(8 * len(data) / (image.width * image.height))
        mse = np.mean((decoded - np.asarray(image)) ** 2)
        psnr.append(10 * np.log10(255**2 / mse))
    results = content["results"]
    assert results["bpp"][0] == pytest.approx(np.mean(bpp))
    assert results["psnr-rgb"][0] == pytest.approx(np.mean(psnr), abs=1e-4)
    assert results["quality"] == [20, 60]
    assert set(map(len, results.values())) == {2}
    assert "lpips-alex" not in results
    assert "alexnet" in content["skipped"]["lpips-alex"]
    assert len(content["per_image"]) == 4
    assert content["protocol"]["geometry"] == "full"
    assert content["protocol"]["dataset"]["n"] == 2
    assert content["versions"]["pillow"]
    captured = capsys.readouterr()
    assert "metric lpips-alex skipped" in captured.err
    for name in ("F.json", "F-webp.json"):
        assert name in captured.out
        assert (folder.parent / name).exists()
    assert sorted(path.name for path in folder.parent.glob("*.*")) == ["F-webp.json", "F.json"]


def test_compressai_reads_and_plots_the_result(folder):
    from compressai.utils.plot.__main__ import parse_json_file

    evaluate(folder)
    for metric in ("psnr", "ms-ssim"):
        read = parse_json_file(folder.parent / "F.json", metric)
        assert read["name"] == "jpeg"
        assert len(read["xs"]) == len(read["ys"]) == 2


def test_decoding_happens_in_one_other_process(folder, tmp_path):
    image = Dataset.collect(folder).load("cat.png")
    file, picture = tmp_path / "a.jpg", tmp_path / "a.ppm"
    file.write_bytes(CLASSIC["jpeg"].compress(image, quality=50))
    with Decoder() as decoder:
        decoder.decode(RatePoint(CodecSpec("jpeg"), None), file, picture)
        first = decoder.pid
        seconds = decoder.decode(RatePoint(CodecSpec("jpeg"), None), file, picture)
        assert decoder.pid == first != os.getpid()
        assert seconds > 0
        with pytest.raises(CodecError, match=r"a\.jpg failed: .*nope"):
            decoder.decode(RatePoint(CodecSpec("nope"), None), file, picture)
    assert Image.open(picture).size == image.size


def test_a_decoder_that_dies_is_told(tmp_path, folder, capsys):
    with Decoder() as decoder, pytest.raises(CodecError, match="decoding process died"):
        decoder.decode(
            RatePoint(CodecSpec("jpeg"), None), tmp_path / "missing.jpg", tmp_path / "a.ppm"
        )
    assert "missing.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(("ladder", "again"), [(False, 0), (True, 1)])
def test_an_interrupted_run_continues(folder, monkeypatch, ladder, again):
    """A ladder of fits is begun again: its next file goes on from the one before."""
    monkeypatch.setattr(run_module, "goes_down", lambda codec: ladder)
    measured = []
    measure = run_module.Evaluator.measure

    def interrupt(self, point, source):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((point.quality, source))
        return measure(self, point, source)

    monkeypatch.setattr(run_module.Evaluator, "measure", interrupt)
    output = folder.parent / "F.json"
    command = ["evaluate", str(folder), "--codec", "jpeg", "--quality", "20,60", "--out"]
    assert main([*command, str(output)]) == 1
    partial = folder.parent / "F.json.partial"
    assert partial.exists()
    assert not output.exists()
    with partial.open("a") as file:
        file.write('{"codec": "jpeg", "sou')  # as if cut off in the middle of a line
    first = measured.copy()
    measured.clear()

    def count(self, point, source):
        measured.append((point.quality, source))
        return measure(self, point, source)

    monkeypatch.setattr(run_module.Evaluator, "measure", count)
    assert main([*command, str(output)]) == 0
    assert measured[:-1] == first[len(first) - again :]
    assert measured[-1] not in first
    assert not partial.exists()
    assert len(json.loads(output.read_text())["per_image"]) == 4


def test_files_are_kept_where_a_plan_says_so(folder, photos):
    sweeps, _ = make_sweeps(CodecSpec("jpeg"), [20, 60])
    files, output = folder.parent / "files", folder.parent / "F.json"
    run_module.run(Plan(Dataset.collect(folder), sweeps, ["psnr-rgb"], output, files=files))
    kept = [path.relative_to(files).as_posix() for path in sorted(files.rglob("*.jpeg"))]
    cat, cup = (f"{name}-jpeg-q" for name in photos)
    assert kept == [f"{cat}20.jpeg", f"{cat}60.jpeg", f"{cup}20.jpeg", f"{cup}60.jpeg"]
    records = {(r["source"], r["quality"]): r["values"] for r in read_report(output).per_image}
    for name, image in photos.items():
        data = CLASSIC["jpeg"].compress(image, quality=60)
        assert (files / f"{name}-jpeg-q60.jpeg").read_bytes() == data
        assert records[name, 60]["bpp"] == 8 * len(data) / (image.width * image.height)


def test_records_of_other_settings_are_not_used(tmp_path):
    record = Record("jpeg", "a.png", 20, {"bpp": 1.0})
    RecordCache(tmp_path / "F.json", {"sha256": "a"}).add(record)
    assert RecordCache(tmp_path / "F.json", {"sha256": "a"}).get("jpeg", "a.png", 20) == record
    assert RecordCache(tmp_path / "F.json", {"sha256": "b"}).get("jpeg", "a.png", 20) is None


def test_the_hash_sees_names_contents_and_number(folder):
    hashes = {Dataset.collect(folder).sha256, Dataset.collect(folder, limit=1).sha256}
    (folder / "cat.png").rename(folder / "dog.png")
    hashes.add(Dataset.collect(folder).sha256)
    shutil.copy(folder / "sub/cup.png", folder / "dog.png")
    hashes.add(Dataset.collect(folder).sha256)
    assert len(hashes) == 4


@pytest.mark.parametrize("size", [(300, 200), (2000, 1000), (768, 768), (769, 1500)])
def test_short768crop768(size):
    assert short768crop768(Image.new("RGB", size)).size == (768, 768)


def test_a_metric_that_fails_on_one_picture_is_left_out_as_a_whole(folder):
    Image.fromarray(photographs.chelsea()[:150, :150]).save(folder / "tiny.png")
    content = evaluate(folder)
    assert "ms-ssim-rgb" not in content["results"]
    assert content["skipped"]["ms-ssim-rgb"].startswith("tiny.png: ms-ssim-rgb needs at least 161")
    assert len(content["results"]["psnr-rgb"]) == 2


def test_a_lossless_picture_has_no_psnr_in_the_file(folder):
    Image.new("RGB", (176, 176), (0, 0, 0)).save(folder / "black.png")
    content = evaluate(folder, "--metrics", "psnr-rgb")
    assert "psnr-rgb" not in content["results"]
    assert "without any loss" in content["skipped"]["psnr-rgb"]


def test_summary_keeps_the_order_of_rate_points():
    values = [{"bpp": bpp, "psnr-rgb": 10 * bpp} for bpp in (1.0, 3.0, 5.0, 7.0)]
    qualities = (9, 9, 2, 2)
    records = [Record("c", "p", q, v) for q, v in zip(qualities, values, strict=True)]
    results, skipped = summarise(records)
    assert results == {"bpp": [2.0, 6.0], "psnr-rgb": [20.0, 60.0], "quality": [9.0, 2.0]}
    assert skipped == {}


def test_report_round_trip_and_no_nan(tmp_path):
    pictures = [asdict(Record("c", "a.png", 2, {"bpp": 1.0}))]
    report = Report(
        "c", "d", {"bpp": [1.0]}, {"geometry": "full"}, {"niqe": "why"}, per_image=pictures
    )
    (tmp_path / "r.json").write_text(report.to_json())
    assert read_report(tmp_path / "r.json") == report
    with pytest.raises(ValueError, match="JSON"):
        Report("c", "d", {"bpp": [float("nan")]}).to_json()


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_codecs(name, photos):
    codec = CLASSIC[name]
    try:
        codec.check_available()
    except CodecError as error:
        pytest.skip(str(error))
    sizes = []
    for quality in (codec.sweep[0], codec.sweep[-1]):
        data = codec.compress(photos["cat.png"], quality=quality)
        decoded = codec.decompress(data)
        assert (decoded.mode, decoded.size) == ("RGB", photos["cat.png"].size)
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


def test_a_format_pillow_lacks_names_the_extra():
    codec = ClassicCodec("x", "NOSUCH", "", plugin="no_such_module")
    with pytest.raises(CodecError, match=r"\.\[baselines\]"):
        codec.check_available()


def test_an_absent_baseline_is_skipped_with_a_line(folder, capsys, monkeypatch):
    lacking = ClassicCodec("jxl", "NOSUCH", "", plugin="no_such_module", sweep=(50,))
    monkeypatch.setitem(CLASSIC, "jxl", lacking)
    evaluate(folder, "--metrics", "psnr-rgb", "--baselines", "jxl")
    assert "baseline jxl skipped: jxl: this Pillow cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("quality", [0, 101, 2.5, float("nan"), float("inf"), None])
def test_classic_quality_is_checked(quality):
    with pytest.raises(OptionError, match="allowed: whole numbers 1 to 100"):
        CLASSIC["jpeg"].check_quality(quality)


def test_default_sweep_of_a_classic_codec():
    spec = CodecSpec("webp")
    assert rate_points(spec, []) == [RatePoint(spec, q) for q in CLASSIC["webp"].sweep]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/nope"], "is not a folder"),
        (["{folder}/empty"], "no pictures in"),
        (["{folder}", "--quality", "a"], "numbers separated by commas"),
        (["{folder}", "--quality", "500"], "allowed: whole numbers 1 to 100"),
        (["{folder}", "--metrics", "psnr"], "psnr-rgb"),
        (["{folder}", "--codec", "jpg"], "unknown codec 'jpg'"),
        (["{folder}", "--baselines", "gif"], "unknown baseline 'gif'; allowed: jpeg, webp"),
        (["{folder}", "--limit", "0"], "at least 1"),
        (["{folder}", "--out", "{folder}/no/F.json"], "does not exist"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(folder, capsys, arguments, message):
    (folder / "empty").mkdir()
    arguments = [argument.format(folder=folder) for argument in arguments]
    output = str(folder.parent / "F.json")
    assert main(["evaluate", "--codec", "jpeg", "--out", output, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


def test_a_damaged_picture_is_named(folder, capsys):
    (folder / "broken.png").write_bytes((folder / "cat.png").read_bytes()[:1000])
    output = folder.parent / "F.json"
    assert main(["evaluate", str(folder), "--codec", "jpeg", "--out", str(output)]) == 1
    assert "broken.png" in capsys.readouterr().err


def test_a_model_of_ours_is_evaluated_from_its_checkpoint(folder, tmp_path, capsys):
    from small_models import ARCHITECTURES, small_model

    from compressai_gen.checkpoints import save_model
    from compressai_gen.entropy import export

    name = "mbt2018-mean-gain-vbr"
    model = small_model(name)
    model.add_module("portable", export(model))
    checkpoint = tmp_path / "checkpoint"
    save_model(model, checkpoint, architecture=name, arguments=ARCHITECTURES[name])
    output = tmp_path / "F.json"
    command = ["evaluate", str(folder), "--checkpoint", str(checkpoint), "--out", str(output)]
    assert main([*command, "--quality", "0,4.5", "--metrics", "psnr-rgb", "--json"]) == 0
    content = json.loads(output.read_text())
    assert content["name"] == name
    assert content["results"]["quality"] == [0, 4.5]
    assert len(content["model"]["fingerprints"][0]) == 12
    assert json.loads(capsys.readouterr().out) == {str(output): content["results"]}
