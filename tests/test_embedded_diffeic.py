"""The DiffEIC that ships: small files, offline, and a prior that earns its keep."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from data import needs, shared_data
from diffusers import AutoencoderTiny, DiffusionPipeline
from PIL import Image, features
from skimage import data

import compressai_gen  # noqa: F401  (makes the pipelines known)
from compressai_gen.checkpoints import known
from compressai_gen.cli.main import main
from compressai_gen.evaluation.measure import load_metrics
from compressai_gen.images import to_tensor
from compressai_gen_plugins.diffeic.codec import DiffEICCodec, first_known


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def codec():
    return DiffEICCodec()


@pytest.fixture(scope="module")
def file(codec, photo):
    return codec.compress(photo)


def test_it_is_small_enough_to_ship():
    files = [f for f in first_known().parent.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 30e6
    assert max(f.stat().st_size for f in files) < 12e6


def test_it_is_the_one_that_is_known():
    (entry,) = [e for e in known() if e.embedded and e.architecture == "diffeic-lfgcm"]
    assert entry.folder == first_known()


def test_the_zoo_has_its_module(codec):
    from compressai.zoo import image_models

    model = image_models["diffeic-lfgcm"](pretrained=True)
    x, z = torch.rand(1, 3, 64, 64), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        said, known_to_say = (m(x, z)["z_c"] for m in (model, codec.pipeline.codec.model))
    assert torch.equal(said, known_to_say)


def test_its_autoencoder_takes_every_key_of_its_config():
    config = AutoencoderTiny.load_config(first_known().parent / "vae")
    _, unused = AutoencoderTiny.from_config(config, return_unused_kwargs=True)
    assert set(unused) == {"_class_name", "_diffusers_version"}


def test_the_two_commands(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.crop((100, 0, 301, 150)).save("photo.png")
    assert main(["compress", "photo.png", "out.cgen", "--codec", "diffeic-lfgcm"]) == 0
    data = Path("out.cgen").read_bytes()
    assert main(["compress", "photo.png", "out.cgen", "--codec", "diffeic"]) == 0
    assert Path("out.cgen").read_bytes() == data
    assert main(["decompress", "out.cgen", "back.png", "--steps", "20"]) == 0
    assert Image.open("back.png").size == (201, 150)


def test_it_is_a_stock_pipeline(codec, photo, file):
    pipe = DiffusionPipeline.from_pretrained(first_known().parent)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.unet.dtype == pipe.vae.dtype == torch.float32
    assert np.array_equal(
        pipe.decompress(file, num_inference_steps=2), codec.decompress(file, steps=2)
    )


def test_its_files_are_extremely_small(photo, file):
    assert 8 * len(file) / (photo.width * photo.height) < 0.15


def distance(a, b):
    metrics, _ = load_metrics(["lpips-squeeze"], shared_data() / "weights")
    return metrics["lpips-squeeze"](to_tensor(a), to_tensor(b))


def as_large(photo, kind, size):
    """The worst picture of another codec that takes at least ``size`` bytes."""
    for quality in range(101):
        buffer = io.BytesIO()
        photo.save(buffer, kind, quality=quality)
        if buffer.tell() >= size:
            return Image.open(buffer)
    raise AssertionError(f"{kind} never takes {size} bytes")


@needs("weights", "lpips")
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_prior_earns_its_keep(codec, name):
    """On photographs that nothing was trained on, with the same file and the same VAE."""
    photo = Image.fromarray(getattr(data, name)())
    file = codec.compress(photo)
    drawn, plain = (distance(photo, codec.decompress(file, steps=steps)) for steps in (20, 0))
    assert drawn < plain
    assert drawn < distance(photo, as_large(photo, "JPEG", len(file)))
    assert drawn < distance(photo, as_large(photo, "WEBP", len(file)))


@needs("weights", "lpips")
@needs("kodak")
@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_its_distance_is_below_avifs_at_the_same_size(codec):
    distances = []
    for number in (4, 15, 23):
        with Image.open(shared_data() / "kodak" / f"kodim{number:02d}.png") as image:
            photo = image.convert("RGB").crop((128, 64, 512, 448))
        file = codec.compress(photo)
        other = as_large(photo, "AVIF", len(file))
        distances.append([distance(photo, p) for p in (codec.decompress(file, steps=20), other)])
    ours, avif = np.mean(distances, axis=0)
    assert ours < avif


@needs("weights", "taesd")
def test_a_decoder_of_stable_diffusion_drops_in(codec, photo, file):
    """The latents are Stable Diffusion's: another VAE for them draws the same picture."""
    pipe = DiffusionPipeline.from_pretrained(first_known().parent)
    pipe.set_progress_bar_config(disable=True)
    pipe.vae = AutoencoderTiny.from_pretrained(shared_data() / "weights" / "taesd")
    theirs = pipe.decompress(file, num_inference_steps=0, output_type="np")
    ours = codec.decompress(file, steps=0, output_type="np")
    assert np.abs(theirs.astype(float) - ours).mean() < 12
