"""Overfitted codecs as CompressAI meets them: its eval_model, modes, and what it may hand in."""

from __future__ import annotations

import json

import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from quick_fits import QUICK, psnr, small_photo, tensor_of
from skimage import data as photographs

import compressai_gen  # noqa: F401  (fills the zoo)
from compressai_gen import open_codec
from compressai_gen.bitstream import Header, codec_fingerprint, pack
from compressai_gen.errors import (
    ImageError,
    MissingWeightsError,
    OptionError,
    SizeLimitError,
    UnknownNameError,
)
from compressai_gen_plugins.overfitted import coolchic_model, nif_model
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.nif_schedules import Schedule as NifSchedule

NAMES = ("nif", "cool-chic-v1", "cool-chic-v2")
CODECS = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(coolchic_model.SCHEDULES, "draft", QUICK)
    monkeypatch.setitem(nif_model.SCHEDULES, "draft", NifSchedule(2, 8, 1, 4))


@pytest.fixture(scope="module")
def x():
    return tensor_of(small_photo())[None]


def zoo(name, quality=2, **options):
    from compressai.zoo import image_models

    return image_models[name](quality, preset="draft", **options).eval()


@pytest.fixture
def photo(work, monkeypatch):
    """A photograph in the folder "photos", and schedules for it as eval_model's default."""
    stages = Stage(60, 1), Stage(2, 0.2, "latents", rounded=True, fixed=True)
    monkeypatch.setitem(coolchic_model.SCHEDULES, "fast", Schedule(((1, 0),), stages))
    monkeypatch.setitem(nif_model.SCHEDULES, "fast", NifSchedule(1, 12, 1, 2))
    (work / "photos").mkdir()
    astronaut = photographs.astronaut()[:168, 150:322]
    Image.fromarray(astronaut).save("photos/a.png")
    return tensor_of(astronaut)


@pytest.mark.parametrize(
    ("name", "options"),
    [("cool-chic-v1", ("-q", "2,4")), ("cool-chic-v2", ("-q", 5, "--half")), ("nif", ("-q", 1)),
     ("nif", ("-q", 1, "--half"))],
)  # fmt: skip
def test_compressais_eval_model_fits_and_measures(cgen, photo, name, options):
    """It calls the factory with ``pretrained=True``, pads, and works without gradients."""
    before = torch.get_num_threads()
    status, out, err = cgen("eval-model", "pretrained", "photos", "-a", name, *options)
    torch.set_num_threads(before)
    assert status == 0, err
    results = json.loads(out[out.index("{") :])["results"]
    flat = psnr(photo.mean((1, 2), keepdim=True), photo)
    assert all(value > flat for value in results["psnr-rgb"])
    assert all(0 < rate < 6 for rate in results["bpp"])


@CODECS
def test_what_is_drawn_is_of_the_models_type_and_the_same(name, x):
    model = zoo(name)
    out = model.compress(x)
    before = torch.get_rng_state()
    expected = model.decompress(**out)["x_hat"]
    assert torch.equal(torch.get_rng_state(), before)
    assert expected.dtype == torch.float32
    for dtype in (torch.float16, torch.float64):
        x_hat = model.to(dtype).decompress(**out)["x_hat"]
        assert x_hat.dtype == dtype
        assert torch.equal(x_hat, expected.to(dtype))
    assert model.half().compress(x.double())["strings"] == out["strings"]


@CODECS
def test_inference_mode_is_no_obstacle(name, x):
    model = zoo(name)
    with torch.inference_mode():
        out = model.compress(x * 1)
        model.decompress(**out)
    assert out["strings"] == model.compress(x)["strings"]


@CODECS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :1], r"\(1, 1, 30, 40\)"),
        (lambda x: x[:, [0, 1, 2, 0]], r"\(1, 4, 30, 40\)"),
        (lambda x: x[0], r"\(3, 30, 40\)"),
        (lambda x: x[:0], r"\(0, 3, 30, 40\)"),
        (lambda x: (255 * x).byte(), "uint8"),
        (lambda x: x * float("nan"), "not nan..nan"),
        (lambda x: 255 * x, r"values in \[0, 1\], not 0..250"),
    ],
)
def test_other_pictures_are_refused(name, change, message, x):
    with pytest.raises(ImageError, match=f"{name} takes .*{message}"):
        zoo(name).compress(change(x))


@CODECS
def test_pictures_that_do_not_fit_are_refused(name):
    gigabytes = 32 if name == "nif" else 12
    with pytest.raises(OptionError, match=f"4096x4096: fitting {name} .* {gigabytes} GiB; cut"):
        zoo(name).compress(torch.zeros(1, 3, 4096, 4096))
    claimed = pack(Header(codec_fingerprint(name), bytes(2), 4096, 4096, 0, quality=1), [b""] * 9)
    with pytest.raises(SizeLimitError, match="4096x4096 = 16777216 pixels: no encoder"):
        open_codec(name).decompress(claimed)


@CODECS
def test_what_a_zoo_or_a_codec_cannot_be_asked_for(name, cgen, work):
    for metric in ("ms-ssim", "banana"):
        with pytest.raises(OptionError, match=f"metric '{metric}'.* loss="):
            zoo(name, metric=metric)
    command = ("compress", "photo.png", "a.cgen", "--codec", name, "--dtype", "banana")
    assert_one_line(cgen(*command), "dtype banana: give one of")


@CODECS
def test_a_loss_is_looked_up_at_once_and_loaded_when_it_is_needed(name, x, tmp_path, monkeypatch):
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnknownNameError, match="unknown loss 'l3'; did you mean l1"):
        zoo(name, loss="l3")
    model = zoo(name, loss="lpips-squeeze")
    with pytest.raises(MissingWeightsError, match="lpips-squeeze"):
        model.compress(x)
