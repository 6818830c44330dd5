"""`cgen demo`: real files of a real photograph, fairly compared with JPEG."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from compressai_gen import demo
from compressai_gen.cli.main import main
from compressai_gen.evaluation.classic import CLASSIC


class FakeCodec:
    """WebP in place of a model: quality 0 to 9."""

    quality_range = (0.0, 9.0)

    def compress(self, image, *, quality=None):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=int(10 + 8 * quality))
        return buffer.getvalue()

    def decompress(self, data, *, output_type="pil"):
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    from compressai_gen import codec

    monkeypatch.setattr(codec, "open_codec", lambda *args, **kwargs: FakeCodec())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_photograph_is_at_hand_and_real():
    photo = demo.sample_photo()
    assert (photo.mode, photo.size) == ("RGB", (451, 300))
    assert np.asarray(photo).std() > 30


def test_demo_writes_files_that_decode_to_what_it_shows(fake, capsys):
    assert main(["demo"]) == 0
    out = fake / "cgen-demo"
    stems = ("q0", "q3", "q6", "q9")
    expected = {"photo.png", "comparison.png"}
    expected |= {f"{stem}.{kind}" for stem in stems for kind in ("cgen", "png", "jpg")}
    assert {path.name for path in out.iterdir()} == expected
    table = capsys.readouterr().out
    photo = Image.open(out / "photo.png")
    for stem in stems:
        data = (out / f"{stem}.cgen").read_bytes()
        decoded = FakeCodec().decompress(data)
        assert np.array_equal(decoded, Image.open(out / f"{stem}.png"))
        assert (out / f"{stem}.jpg").stat().st_size <= len(data)
        row = next(line for line in table.splitlines() if f"{stem}.cgen" in line)
        assert str(len(data)) in row
        assert f"{demo.psnr(photo, decoded):.2f} dB" in row
    for command in ("cgen info", "cgen decompress", "cgen compress", "cgen evaluate"):
        assert command in table
    sheet = Image.open(out / "comparison.png")
    assert sheet.width > 900
    assert np.asarray(sheet).std() > 30


@pytest.mark.filterwarnings("ignore::compressai_gen.notes.ImageNote")
def test_demo_takes_a_photograph_of_ones_own(fake, capsys):
    Image.new("L", (70, 90), 100).save(fake / "mine.png")
    assert main(["demo", "--image", "mine.png", "--out", "there"]) == 0
    assert "there/photo.png: 70x90 pixels" in capsys.readouterr().out


def test_the_jpeg_is_the_best_that_fits():
    photo = demo.sample_photo()
    sizes = {q: len(CLASSIC["jpeg"].compress(photo, quality=q)) for q in demo.JPEG_QUALITIES}
    for limit in (sizes[30], sizes[30] + 1, sizes[31] - 1):
        assert len(demo.jpeg_of_size(photo, limit)) == sizes[30]
    assert len(demo.jpeg_of_size(photo, 10)) == sizes[1]
    assert len(demo.jpeg_of_size(photo, 10**9)) == sizes[95]


def test_a_jpeg_that_cannot_be_as_small_is_marked(tmp_path):
    photo = demo.sample_photo()
    tiny = demo.Shown(0, tmp_path / "q0.cgen", 100, photo, 20.0, (1, 1), 3000, photo, 19.0)
    assert "3000 (its smallest)" in demo.table(photo, [tiny])


def test_rates_of_a_codec_without_a_range():
    assert demo.rates_of(object()) == [None]
    assert demo.rates_of(FakeCodec()) == [0, 3, 6, 9]


def test_psnr():
    black, grey = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (51, 51, 51))
    assert demo.psnr(black, grey) == pytest.approx(10 * math.log10(25))
    assert demo.psnr(black, black) == math.inf
