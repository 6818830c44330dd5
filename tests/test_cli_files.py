"""`cgen compress`, `decompress` and `info` on real files, folders, pipes and mistakes."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import ARCHITECTURES
from toys import (
    DEFAULT,
    MeanColour,
    empty_registries,
    exported,
    pixels,
    register_grey,
    register_mean_colour,
)

from compressai_gen.bitstream import files as files_module
from compressai_gen.bitstream import unpack
from compressai_gen.checkpoints import save_model
from compressai_gen.cli.main import main
from compressai_gen.images import read_image

Cgen = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small checkpoint of the default codec and one of a non-portable one."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in (DEFAULT, "mbt2018"):
        save_model(exported(name), folder / name, architecture=name, arguments=ARCHITECTURES[name])
    return folder


@pytest.fixture
def work(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one picture; the small checkpoint is the only one known."""
    known = sys.modules["compressai_gen.checkpoints.known"]
    monkeypatch.setattr(known, "_embedded", lambda: iter(()))
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "no cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.fromarray(pixels(40, 50)).save("photo.png")
    return folder


@pytest.fixture
def cgen(capsys: pytest.CaptureFixture[str]) -> Cgen:
    """Runs a command: its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def names(folder: Path | str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def assert_one_line(result: tuple[int, str, str], *words: str) -> None:
    """A user's mistake: exit status 1, one line on standard error, nothing else."""
    status, out, err = result
    assert (status, out) == (1, "")
    assert err.startswith("cgen: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


# -- the main path ------------------------------------------------------------------------------


@pytest.mark.usefixtures("work")
def test_there_and_back(cgen: Cgen):
    status, out, err = cgen("compress", "photo.png")
    assert (status, err) == (0, "")
    size = Path("photo.cgen").stat().st_size
    assert f"photo.png -> photo.cgen  50x40  {size} bytes  {8 * size / 2000:.4f} bpp" in out
    assert "quality 4" in out
    assert cgen("decompress", "photo.cgen", "out.png")[0] == 0
    assert Image.open("out.png").size == (50, 40)
    assert names() == ["out.png", "photo.cgen", "photo.png"]


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("extension", ["jpg", "webp", "tiff", "bmp", "PNG"])
def test_the_output_format_follows_the_name(cgen: Cgen, extension: str):
    cgen("compress", "photo.png", "a.cgen")
    assert cgen("decompress", "a.cgen", "-o", f"out.{extension}")[0] == 0
    image, notes = read_image(Path(f"out.{extension}").read_bytes())
    assert (image.size, notes) == ((50, 40), [])


@pytest.mark.usefixtures("work")
def test_info(cgen: Cgen):
    cgen("compress", "photo.png", "--quality", "2.501")
    told = json.loads(cgen("info", "photo.cgen", "--json")[1])
    size = Path("photo.cgen").stat().st_size
    assert told["codec"] == DEFAULT
    assert Path(told["checkpoint"]).name == DEFAULT
    assert (told["bytes"], told["pixels"]) == (size, 2000)
    assert told["bits_per_pixel"] == 8 * size / 2000
    assert told["chunks"] == [size - 31]
    assert told["quality"] == 2.5
    assert told["profile"] == "portable"
    text = cgen("info", "photo.cgen")[1]
    assert f"bits per pixel  {8 * size / 2000:.6g}" in text
    assert told["fingerprint"] in text


@pytest.mark.usefixtures("work")
def test_info_without_the_checkpoint(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    cgen("compress", "photo.png")
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", "")
    status, out, _ = cgen("info", "photo.cgen")
    assert status == 0
    assert "codec           not known on this machine" in out


def test_info_imports_no_torch(run_python: Callable[..., str], work: Path, cgen: Cgen):
    cgen("compress", "photo.png")
    told = run_python(
        "import sys; from compressai_gen.cli.main import main; "
        f"main(['info', {str(work / 'photo.cgen')!r}]); print('torch' in sys.modules)"
    )
    assert told.endswith("False\n")


@pytest.mark.usefixtures("work")
def test_folders_globs_and_json(cgen: Cgen):
    Path("in/deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.jpg", "in/c.txt"):
        Image.fromarray(pixels(8, 9)).save(name, "PNG" if name.endswith("g") else "BMP")
    status, out, _ = cgen("compress", "in", "ph*.png", "-o", "small", "--json")
    assert status == 0
    reports = json.loads(out)
    assert [Path(report["output"]).as_posix() for report in reports] == [
        "small/a.cgen",
        "small/deep/b.cgen",
        "small/photo.cgen",
    ]
    assert {"input", "output", "width", "height", "bytes", "bpp", "quality", "seconds"} <= set(
        reports[0]
    )
    assert cgen("decompress", "small", "-o", "big", "--format", "webp")[0] == 0
    assert names("big") == ["a.webp", "deep", "photo.webp"]
    assert Image.open("big/deep/b.webp").size == (9, 8)


@pytest.mark.usefixtures("work")
def test_one_bad_file_among_several(cgen: Cgen):
    Path("bad.png").write_bytes(b"not a picture")
    status, out, err = cgen("compress", "bad.png", "photo.png", "missing.png", "-o", "out/")
    assert status == 1
    assert "cgen: bad.png: not a picture" in err
    assert "missing.png: cannot read missing.png: No such file" in err
    assert "photo.png -> out/photo.cgen" in out
    assert names("out") == ["photo.cgen"]


def test_pipes(work: Path, cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    cgen("compress", "photo.png")
    coded = Path("photo.cgen").read_bytes()

    def through(command: str, data: bytes) -> tuple[bytes, str]:
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            assert main([command, "-", "-"]) == 0
        return out.buffer.getvalue(), err.getvalue()

    piped, told = through("compress", (work / "photo.png").read_bytes())
    assert piped == coded
    assert "- -> -" in told
    picture, _ = through("decompress", coded)
    cgen("decompress", "photo.cgen", "out.png")
    assert picture == Path("out.png").read_bytes()


@pytest.mark.usefixtures("work")
def test_rate_targets(cgen: Cgen):
    cgen("compress", "photo.png", "low.cgen", "--quality", 0)
    cgen("compress", "photo.png", "high.cgen", "--quality", 9)
    low, high = (8 * Path(f"{name}.cgen").stat().st_size / 2000 for name in ("low", "high"))
    middle = (low + high) / 2
    status, out, _ = cgen("compress", "photo.png", "-o", "m.cgen", "--bpp", middle, "--json")
    assert status == 0
    (report,) = json.loads(out)
    assert 0.9 * middle < report["bpp"] <= middle
    assert 0 < report["quality"] < 9
    assert_one_line(cgen("compress", "photo.png", "--bpp", low / 2), "smallest file", "quality 0")
    assert_one_line(cgen("compress", "photo.png", "--psnr", 80), "cannot be reached", "dB")
    status, out, err = cgen("compress", "photo.png", "--psnr", 1)
    assert status == 0
    assert "below the codec's range" in err
    assert " dB " in out


@pytest.mark.usefixtures("work")
def test_notes_are_told(cgen: Cgen):
    Image.open("photo.png").convert("L").save("grey.png")
    status, _, err = cgen("compress", "grey.png")
    assert (status, err) == (0, "cgen: note: grey.png: greyscale coded as three equal channels\n")


@pytest.mark.usefixtures("work")
def test_a_non_portable_codec_says_so(cgen: Cgen, checkpoints: Path):
    status, _, err = cgen("compress", "photo.png", "--checkpoint", checkpoints / "mbt2018")
    assert status == 0
    assert "no fixed-point entropy path" in err
    assert not unpack(Path("photo.cgen").read_bytes())[0].portable
    assert json.loads(cgen("info", "photo.cgen", "--json")[1])["profile"] == "float32-host"
    assert cgen("decompress", "photo.cgen", "o.png")[0] == 0


# -- options of plugins -------------------------------------------------------------------------


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
    with pytest.raises(SystemExit):  # declared for compress only
        cgen("decompress", "a.cgen", "--gain", "1")


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


def test_both_commands_know_the_same_picture_formats():
    from compressai_gen.cli.batch import PICTURES
    from compressai_gen.images import WRITERS

    assert tuple(WRITERS) == PICTURES


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


# -- mistakes -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("work")
def test_bad_input(cgen: Cgen):
    Path("text.png").write_text("hello")
    Path("empty.png").touch()
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:300])
    Path("folder").mkdir()
    assert_one_line(cgen("compress", "text.png"), "text.png", "not a picture")
    assert_one_line(cgen("compress", "empty.png"), "the file is empty")
    assert_one_line(cgen("compress", "cut.png"), "damaged or cut off")
    assert_one_line(cgen("compress", "missing.png"), "no such file: missing.png")
    assert_one_line(cgen("compress", "*.jpg"), "no file matches *.jpg")
    assert_one_line(cgen("compress", "folder"), "the folder folder has no", ".png")
    assert_one_line(cgen("compress", "photo.png", "--quality", 12), "out of range", "0", "9")
    assert_one_line(
        cgen("compress", "photo.png", "--codec", "cheng2020-ancor-vbr"), "did you mean", DEFAULT
    )
    assert_one_line(cgen("compress", "photo.png", "--checkpoint", "nowhere"), "nowhere")
    assert_one_line(cgen("compress", "photo.png", "--device", "gpu"), "device 'gpu'")
    assert_one_line(cgen("compress", "photo.png", "--max-pixels", 100), "--max-pixels")
    assert_one_line(cgen("compress", "photo.png", "cut.png", "-o", "a.cgen"), "a.cgen", "folder")
    assert_one_line(cgen("compress", "photo.png", "cut.png", "-o", "-"), "standard output")
    assert_one_line(cgen("compress", "photo.png", "-o", "-", "--json"), "--json")
    assert names() == ["cut.png", "empty.png", "folder", "photo.png", "text.png"]


@pytest.mark.usefixtures("work")
def test_bad_files_to_decompress(cgen: Cgen, checkpoints: Path):
    cgen("compress", "photo.png", "good.cgen")
    data = Path("good.cgen").read_bytes()
    Path("cut.cgen").write_bytes(data[:-3])
    Path("bad.cgen").write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    before = names()
    assert_one_line(cgen("decompress", "photo.png", "o.png"), "not a .cgen file")
    assert_one_line(cgen("decompress", "cut.cgen", "o.png"), "the file ends inside chunk 1")
    assert_one_line(cgen("decompress", "bad.cgen", "o.png"), "checksum does not match")
    assert_one_line(cgen("decompress", "good.cgen", "o.gif"), "o.gif", ".png")
    assert_one_line(cgen("decompress", "good.cgen", "o.png", "--max-pixels", 9), "--max-pixels")
    wrong = checkpoints / "mbt2018"
    assert_one_line(cgen("decompress", "good.cgen", "o.png", "--checkpoint", wrong), "written with")
    assert_one_line(cgen("info", "photo.png"), "not a .cgen file")
    assert_one_line(cgen("info", "."), "is a folder")
    assert names() == before


@pytest.mark.usefixtures("work")
def test_an_unknown_checkpoint(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    cgen("compress", "photo.png")
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", "")
    assert_one_line(cgen("decompress", "photo.cgen", "o.png"), "--checkpoint")


@pytest.mark.usefixtures("work")
def test_transparent_pixels(cgen: Cgen):
    Image.open("photo.png").convert("RGBA").resize((5, 5)).save("opaque.png")
    Image.new("RGBA", (5, 5), (0, 0, 0, 0)).save("clear.png")
    assert "opaque alpha channel dropped" in cgen("compress", "opaque.png")[2]
    assert_one_line(cgen("compress", "clear.png"), "--background white")
    assert cgen("compress", "clear.png", "--background", "white")[0] == 0


@pytest.mark.usefixtures("work")
def test_nothing_is_overwritten_by_surprise(cgen: Cgen):
    photo = Path("photo.png").read_bytes()
    assert_one_line(cgen("compress", "photo.png", "-o", "photo.png"), "the output is the input")
    cgen("compress", "photo.png")
    assert cgen("compress", "photo.png")[0] == 0  # a .cgen file of the same name is replaced
    assert_one_line(cgen("decompress", "photo.cgen"), "photo.png exists", "--force")
    assert Path("photo.png").read_bytes() == photo
    assert cgen("decompress", "photo.cgen", "--force")[0] == 0
    assert Path("photo.png").read_bytes() != photo
    Image.new("RGB", (4, 4)).save("photo.jpg")
    assert_one_line(cgen("compress", "photo.png", "photo.jpg", "-o", "out"), "would both become")
    assert "out" not in names()


@pytest.mark.usefixtures("work")
def test_impossible_targets(cgen: Cgen):
    Path("ro.cgen").write_bytes(b"precious")
    Path("ro.cgen").chmod(0o444)
    assert_one_line(cgen("compress", "photo.png", "ro.cgen"), "read-only")
    assert_one_line(cgen("compress", "photo.png", "no/where.cgen"), "does not exist")
    assert_one_line(cgen("compress", "photo.png", "ro.cgen", "-o", "photo.png"), "photo.png")
    assert Path("ro.cgen").read_bytes() == b"precious"
    assert names() == ["photo.png", "ro.cgen"]


@pytest.mark.usefixtures("work")
def test_a_full_disk(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files_module.os, "write", full)
    assert_one_line(cgen("compress", "photo.png"), "No space left on device")
    assert names() == ["photo.png"]


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_an_interrupted_run(cgen: Cgen, monkeypatch: pytest.MonkeyPatch, where: str):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module.os, where, interrupt)
    assert_one_line(cgen("compress", "photo.png"), "interrupted")
    assert names() == ["photo.png"]


@pytest.mark.usefixtures("work")
def test_too_little_memory(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    from compressai_gen.codec.model_codec import ModelCodec

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(ModelCodec, "compress", fail)
    assert_one_line(cgen("compress", "photo.png"), "not enough memory")
