"""Mistakes and accidents: one line, exit status 1, nothing half-written, nothing lost."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from cgen_command import Cgen, assert_one_line, names
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from toys import DEFAULT

from compressai_gen.bitstream import files as files_module
from compressai_gen.cli.main import main


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
    assert_one_line(cgen("compress", "photo.png", "cut.png", "a.cgen"), "a.cgen", "folder")
    assert_one_line(cgen("compress", "photo.png", "cut.png", "-o", "-"), "standard output")
    for stdout in ("-", "/dev/stdout"):
        assert_one_line(cgen("compress", "photo.png", "-o", stdout, "--json"), "--json")
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
    assert_one_line(cgen("decompress", "good.cgen", "bad.cgen", "o.png"), "o.png", "folder")
    assert_one_line(cgen("decompress", "photo.png"), "not a .cgen file")
    assert_one_line(cgen("compress", "good.cgen"), "not a picture")
    assert_one_line(cgen("info", "photo.png"), "not a .cgen file")
    assert_one_line(cgen("info", "."), "is a folder")
    assert names() == before


@pytest.mark.parametrize("limit", [0, -1])
@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
def test_a_limit_that_no_picture_is_below(cgen: Cgen, command: str, limit: int):
    assert_one_line(cgen(command, "a.cgen", "--max-pixels", limit), f"{limit}:", "at least 1")


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
def test_a_line_that_cannot_be_parsed(cgen: Cgen):
    assert_one_line(cgen("compress"), "compress:", "required: IN", "see cgen compress --help")
    assert_one_line(cgen("compress", "photo.png", "--quality", "best"), "--quality", "'best'")
    assert_one_line(
        cgen("compress", "photo.png", "--quality", 1, "--bpp", 0.3), "--bpp", "not allowed with"
    )
    assert_one_line(cgen("train", "nosuch"), "train:", "'nosuch'", "'latent-fusion'")
    assert_one_line(cgen("train", "diffeic", "--steps", "x"), "see cgen train diffeic --help")
    assert_one_line(cgen("convert", "nosuch"), "convert:", "'nosuch'", "'hific'")
    assert_one_line(cgen("convert", "hific"), "convert hific:", "--out")
    assert_one_line(cgen("loss-study"), "loss-study:")
    assert names() == ["photo.png"]


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


@pytest.mark.parametrize(("command", "forces"), [("compress", False), ("decompress", True)])
def test_only_pictures_are_replaced_by_force(capsys, command: str, forces: bool):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert ("--force" in capsys.readouterr().out) == forces


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
