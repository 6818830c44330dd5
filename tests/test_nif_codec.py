"""NIF: the zoo and the command line, files, damage and mistakes."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from quick_fits import psnr, small_photo, tensor_of
from test_fuzz import damaged, sealed

import compressai_gen  # noqa: F401  (fills the zoo)
from compressai_gen import codec_for, open_codec
from compressai_gen.bitstream import Header, codec_fingerprint, pack, unpack
from compressai_gen.errors import BitstreamError, CorruptedFileError, OptionError
from compressai_gen_plugins.overfitted import nif_files, nif_model
from compressai_gen_plugins.overfitted.codec import NifCodec
from compressai_gen_plugins.overfitted.nif import QUALITIES, Nif, Sizes
from compressai_gen_plugins.overfitted.nif_fitting import fit
from compressai_gen_plugins.overfitted.nif_schedules import Schedule

SMALL = Sizes((16, 8), (8,))
QUICK = Schedule(2, 8, 1, 4)


@pytest.fixture(scope="module")
def photo():
    return small_photo()


def test_the_command_with_nothing_to_download(cgen, work):
    status, _, err = cgen(
        "compress", "photo.png", "a.cgen", "--codec", "nif", "--quality", 1, "--preset", "draft",
        "--loss", "mse",
    )  # fmt: skip
    assert status == 0, err
    status, _, err = cgen("decompress", "a.cgen", "a.png")
    assert status == 0, err
    a, b = (tensor_of(Image.open(name)) for name in ("photo.png", "a.png"))
    assert psnr(a, b) > 24
    with open("a.cgen", "rb") as file:
        assert isinstance(codec_for(file.read()), NifCodec)
    told = dict(line.split(maxsplit=1) for line in cgen("info", "a.cgen")[1].splitlines())
    assert told["codec"] == "nif"
    assert told["checkpoint"] == told["synthesis"] == "none: the file alone decodes"


def test_the_zoo_also_without_gradients(photo):
    from compressai.zoo import image_models

    model = image_models["nif"](1, pretrained=True, preset="draft", loss="mse").eval()
    assert next(model.parameters()).is_floating_point()
    x = torch.zeros(1, 3, 64, 64)
    x[:, :, :30, :40] = tensor_of(photo)
    with torch.no_grad():
        out = model.compress(x)
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert out["shape"] == (64, 64)
    assert psnr(x_hat, x) > 20
    with pytest.raises(CorruptedFileError):
        model.decompress([[out["strings"][0][0][:1]]], (64, 64))
    with pytest.raises(OptionError, match="no estimated rate"):
        model(x)
    with pytest.raises(OptionError, match="no quality 8"):
        image_models["nif"](8)


@pytest.fixture(scope="module")
def file(photo):
    (network,) = fit(tensor_of(photo)[None], SMALL, QUICK, loss="mse")
    chunks, crc = nif_files.write(network)
    return pack(Header(codec_fingerprint("nif"), bytes(2), 30, 40, crc, quality=1), chunks)


def test_a_file_alone_makes_the_picture_and_threads_change_a_level_at_most(file, photo):
    count = sum(p.numel() for p in Nif(SMALL).parameters())
    assert len(file) < count + 31 + 3 + 3 * 10 + 8
    (network_bpp,) = NifCodec().figures(photo, file).values()
    assert 0 < 8 * len(file) - network_bpp * photo.width * photo.height < 8 * 48  # the header
    before = torch.get_num_threads()
    pictures = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        pictures.append(open_codec("nif").decompress(file, output_type="np").astype(int))
    torch.set_num_threads(before)
    assert pictures[0].shape == (30, 40, 3)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_damaged_and_hostile_files(file):
    codec, rng = NifCodec(), random.Random(0)
    for number in range(20_000):
        bad = damaged(file, number, rng)
        if bad != file:
            with pytest.raises(BitstreamError):
                codec.decompress(bad)
    header, (side, stream) = unpack(file)
    attacks = [
        [side], [side, stream, b""], [b"", stream], [b"\x01\xff\xff" + side, stream],
        [b"\x09" + side[1:], stream], [side[:-1], stream], [side + b"\0", stream],
        [side, stream[:-4]], [side, stream + bytes(4)], [side, b""], [side, bytes(64)],
        [b"\x08" + b"\x04\x00" * 8 + b"\x01\x00\x01", b"\xff" * 64],
    ]  # fmt: skip
    for _ in range(200):
        noise = bytearray(stream)
        noise[rng.randrange(len(noise))] ^= 1 << rng.randrange(8)
        attacks.append([side, bytes(noise)])
    for chunks in attacks:
        with pytest.raises(BitstreamError):
            codec.decompress(pack(header, chunks))
    for _ in range(200):  # another bound may still be a network: an error, or a picture
        changed = bytearray(side)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        with contextlib.suppress(BitstreamError):
            assert codec.decompress(pack(header, [bytes(changed), stream])).size == (40, 30)
    assert sealed(file) == file


def test_mistakes_are_told(cgen, work):
    photo = ("compress", "photo.png", "x.cgen", "--codec", "nif")
    for options, words in (
        (("--quality", 0.5), "no quality 0.5"),
        (("--quality", 9), "no quality 9"),
        (("--preset", "slowest"), "slow"),
        (("--loss", "l3"), "l1"),
        (("--loss", "ms-ssim"), "50x40: nif judges every second row and column by itself; 25x20"),
        (("--checkpoint", "."), "no checkpoint"),
    ):
        assert_one_line(cgen(*photo, *options), words)
    with pytest.raises(OptionError, match="about 32 GiB"):
        NifCodec().compress(torch.zeros(3, 4096, 4096))
    assert not list(work.glob("*.cgen"))


def test_an_interrupted_evaluation_repeats_no_fit(cgen, work, monkeypatch):
    """Nor is any made to warm up: networks of different sizes have nothing in common."""
    monkeypatch.setitem(nif_model.SCHEDULES, "draft", QUICK)
    fitted, fit_one = [], NifCodec.fit

    def interrupted(self, model, x, *arguments):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return counted(self, model, x, *arguments)

    def counted(self, model, x, *arguments):
        fitted.append((model.quality, *x.shape[1:]))
        return fit_one(self, model, x, *arguments)

    command = ("evaluate", ".", "--codec", "nif", "--quality", "1,2,3", "--preset", "draft")
    for fit_as, status in ((interrupted, 1), (counted, 0)):
        monkeypatch.setattr(NifCodec, "fit", fit_as)
        assert cgen(*command, "--metrics", "psnr-rgb", "--out", "r.json")[0] == status
    assert fitted == [(1, 40, 50), (2, 40, 50), (3, 40, 50)]


def test_a_rate_and_a_quality_are_reached(cgen, work, monkeypatch):
    for quality in QUALITIES:
        monkeypatch.setitem(QUALITIES, quality, Sizes((6 * quality, 4 * quality), (4,)))
    monkeypatch.setitem(nif_model.SCHEDULES, "draft", Schedule(1, 40, 1, 4))
    photo = ("compress", "photo.png", "a.cgen", "--codec", "nif", "--preset", "draft")
    photo = (*photo, "--loss", "mse")
    original = np.asarray(Image.open("photo.png"))
    budget = 1800
    status, _, err = cgen(*photo, "--bpp", 8 * budget / (original.size / 3))
    assert status == 0, err
    assert 0.9 * budget < (work / "a.cgen").stat().st_size <= budget
    drawn = NifCodec().decompress((work / "a.cgen").read_bytes(), output_type="np")
    reached = psnr(tensor_of(drawn), tensor_of(original))
    status, _, err = cgen(*photo, "--psnr", reached - 1)
    assert status == 0, err
    drawn = NifCodec().decompress((work / "a.cgen").read_bytes(), output_type="np")
    assert psnr(tensor_of(drawn), tensor_of(original)) >= reached - 1
    assert_one_line(cgen(*photo, "--bpp", 0.1), "--bpp 0.1 cannot be reached: the smallest file")
    assert_one_line(cgen(*photo, "--psnr", 60), "--psnr 60 cannot be reached: the best picture")


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (1, 30)])
def test_small_pictures(size, cgen, work):
    """By the default loss, which looks at structure."""
    Image.new("RGB", size, (200, 60, 10)).save("a.png")
    command = ("compress", "a.png", "--codec", "nif", "--preset", "draft", "--quality", 1)
    status, _, err = cgen(*command)
    assert status == 0, err
    drawn = NifCodec().decompress((work / "a.cgen").read_bytes(), output_type="np")
    assert drawn.shape == (*size[::-1], 3)
    assert np.abs(drawn.astype(int) - [200, 60, 10]).mean() < 10
