"""`cgen demo`: real files of a real photograph, fairly compared with JPEG."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from data import needs, shared_data
from PIL import Image
from small_fusion import small_fusion
from toys import DEFAULT, exported

from compressai_gen import demo
from compressai_gen.cli.main import main
from compressai_gen.codec import ModelCodec
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


@pytest.fixture
def dialled(monkeypatch, tmp_path):
    """The default codec with small random weights, and a fusion module that ships for it."""
    import compressai_gen_plugins.latent_fusion.enhancer as enhancer
    from compressai_gen import codec

    small = ModelCodec(exported(DEFAULT), DEFAULT)
    bound = {"base_fingerprint": small.fingerprint.hex(), "base_synthesis": small.synthesis.hex()}
    small_fusion(16, rate_points=10, **bound).save_pretrained(tmp_path / "module")
    monkeypatch.setattr(enhancer, "EMBEDDED", tmp_path / "module")
    monkeypatch.setattr(codec, "open_codec", lambda *args, **kwargs: small)
    monkeypatch.setattr(demo, "JPEG_QUALITIES", range(1, 4))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.asarray(demo.sample_photo())[:90, :100]).save("photo.png")
    return small


@pytest.mark.parametrize("lpips", [True, False])
def test_demo_shows_the_dial(dialled, tmp_path, monkeypatch, capsys, lpips):
    monkeypatch.setattr(demo, "_lpips", lambda _, pictures: [0.1 if lpips else None] * 3)
    assert main(["demo", "--image", "photo.png", "--out", "there"]) == 0
    out, text = tmp_path / "there", capsys.readouterr().out
    file, photo = (out / "q3.cgen").read_bytes(), Image.open("photo.png")
    for tau in ("0", "0.5", "1"):
        picture = Image.open(out / f"q3-tau{tau}.png")
        assert np.array_equal(picture, dialled.decompress(file, tau=float(tau)))
        line = next(line for line in text.splitlines() if f"q3-tau{tau}.png" in line)
        assert f"{demo.psnr(photo, picture):.2f} dB" in line
        assert ("LPIPS-squeeze 0.100" in line) == lpips
    assert np.array_equal(picture, Image.open(out / "q3.png"))  # tau 1 is the codec's own
    assert not np.array_equal(picture, Image.open(out / "q3-tau0.png"))
    assert Image.open(out / "dial.png").width > 1200
    assert "cgen decompress there/q3.cgen again.png --tau 0.3" in text


def test_demo_without_a_fusion_module_is_as_before(dialled, tmp_path, monkeypatch, capsys):
    import compressai_gen_plugins.latent_fusion.enhancer as enhancer

    monkeypatch.setattr(enhancer, "EMBEDDED", tmp_path / "nowhere")
    assert main(["demo", "--image", "photo.png", "--out", "there"]) == 0
    assert not [path for path in (tmp_path / "there").iterdir() if "tau" in path.name]
    assert not (tmp_path / "there" / "dial.png").exists()
    assert "tau" not in capsys.readouterr().out


def test_lpips_of_the_dial_needs_its_weights(monkeypatch, tmp_path):
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    photo = demo.sample_photo()
    assert demo._lpips(photo, [photo, photo]) == [None, None]


@needs("weights", "lpips")
def test_lpips_of_the_dial(monkeypatch):
    monkeypatch.setenv("COMPRESSAI_GEN_WEIGHTS", str(shared_data() / "weights"))
    photo = demo.sample_photo()
    same, grey = demo._lpips(photo, [photo, Image.new("RGB", photo.size, "grey")])
    assert same == 0
    assert grey > 0.3
    tiny = Image.new("RGB", (31, 40))
    assert demo._lpips(tiny, [tiny]) == [None]
