"""`cgen compress`, `decompress` and `info` on real files, folders and pipes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cgen_command import Cgen, assert_one_line, names
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from hub_cache import write_hub_cache
from PIL import Image
from small_models import ARCHITECTURES
from test_images_odd import tiff_without_a_second_page
from toys import DEFAULT, exported, pixels

from compressai_gen.bitstream import unpack
from compressai_gen.checkpoints import save_model
from compressai_gen.cli.main import main
from compressai_gen.images import read_image


@pytest.mark.usefixtures("work")
def test_there_and_back(cgen: Cgen):
    status, out, err = cgen("compress", "photo.png")
    assert (status, err) == (0, "")
    size = Path("photo.cgen").stat().st_size
    assert f"photo.png -> photo.cgen  50x40  {size} bytes  {8 * size / 2000:.4f} bpp" in out
    assert "quality 4" in out
    assert cgen("decompress", "photo.cgen", "--format", "png", "out.png")[0] == 0
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
def test_files_of_two_models_with_one_fingerprint(cgen: Cgen, monkeypatch: pytest.MonkeyPatch):
    model = exported(DEFAULT)
    for name in ("a", "b-tuned"):
        save_model(model, f"ck/{name}", architecture=DEFAULT, arguments=ARCHITECTURES[DEFAULT])
        cgen("compress", "photo.png", f"{name}.cgen", "--checkpoint", f"ck/{name}")
        cgen("decompress", f"{name}.cgen", f"{name}.png", "--checkpoint", f"ck/{name}")
        model.g_s[-1][0].bias.data += 0.2
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", "ck")
    assert cgen("decompress", "a.cgen", "b-tuned.cgen", "-o", "out")[::2] == (0, "")
    for name in ("a", "b-tuned"):
        assert Path(f"out/{name}.png").read_bytes() == Path(f"{name}.png").read_bytes()
        assert f"ck/{name}\n" in cgen("info", f"{name}.cgen")[1]
    assert Path("a.png").read_bytes() != Path("b-tuned.png").read_bytes()


def test_both_commands_know_the_same_picture_formats():
    from compressai_gen.cli.batch import PICTURES
    from compressai_gen.images import WRITERS

    assert tuple(WRITERS) == PICTURES


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
    Path("cut.tif").write_bytes(tiff_without_a_second_page())
    bad = ("bad.png", "cut.tif", "missing.png")
    status, out, err = cgen("compress", *bad, "photo.png", "-o", "out/")
    assert status == 1
    assert "cgen: bad.png: not a picture" in err
    assert "cgen: cut.tif: the picture is damaged" in err
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


def test_a_checkpoint_from_the_hub_is_found_again(
    work: Path, cgen: Cgen, checkpoints: Path, monkeypatch
):
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", "")
    cache = write_hub_cache(checkpoints / DEFAULT, work.parent, "org/codec")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cgen("compress", "photo.png", "--checkpoint", "org/codec")[0] == 0
    assert cgen("decompress", "photo.cgen", "out.png")[0] == 0
    assert Image.open("out.png").size == (50, 40)
    told = json.loads(cgen("info", "photo.cgen", "--json")[1])
    assert told["codec"] == DEFAULT
    assert Path(told["checkpoint"]).is_relative_to(cache / "models--org--codec")


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
