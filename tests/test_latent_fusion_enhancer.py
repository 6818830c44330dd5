"""The dial at decoding: `--tau` on files of any codec, the sender's wish, what is refused."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from small_fusion import small_fusion
from toys import DEFAULT

from compressai_gen.bitstream import pack, unpack
from compressai_gen.checkpoints import load_model
from compressai_gen.codec import ModelCodec
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.notes import SynthesisWarning
from compressai_gen_plugins.latent_fusion import enhancer
from compressai_gen_plugins.latent_fusion.enhancer import LatentFusionEnhancer
from diffusers_codec.models.latent_fusion import LatentFusionModel


@pytest.fixture
def codec(work, checkpoints) -> ModelCodec:
    enhancer.LAST.clear()
    return ModelCodec.from_pretrained(checkpoints / DEFAULT)


@pytest.fixture
def module(work, codec):
    """A module bound to the small default codec, in a folder."""
    bound = {
        "base_fingerprint": codec.fingerprint.hex(),
        "base_synthesis": codec.synthesis.hex(),
    }
    small_fusion(16, rate_points=10, **bound).save_pretrained(work / "module")
    return work / "module"


def pixels_of(codec, data, **options):
    return codec.decompress(data, output_type="np", **options).astype(int)


def test_a_module_that_was_trained_on_is_read_again(codec, module):
    data = codec.compress(Image.open("photo.png"), quality=3)
    before = pixels_of(codec, data, tau=0, fusion=module)
    other = LatentFusionModel.from_pretrained(module)
    torch.nn.init.normal_(other.conv_out.weight, std=0.2)
    other.save_pretrained(module)
    assert not np.array_equal(pixels_of(codec, data, tau=0, fusion=module), before)


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_folder_without_a_module(codec, module, damage):
    data = codec.compress(Image.open("photo.png"), quality=3)
    weights = module / "diffusion_pytorch_model.safetensors"
    if damage == "empty":
        for file in module.iterdir():
            file.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="module"):
        codec.decompress(data, tau=0, fusion=module)


def test_the_dial(codec, module, work):
    photo = Image.open("photo.png")
    data = codec.compress(photo, quality=3)
    plain = pixels_of(codec, data)
    assert np.array_equal(pixels_of(codec, data, tau=1, fusion=module), plain)
    fused, half = (pixels_of(codec, data, tau=t, fusion=module) for t in (0, 0.5))
    assert np.abs(fused - plain).max() > 2
    assert 0 < np.abs(half - plain).sum() < np.abs(fused - plain).sum()
    assert np.array_equal(pixels_of(codec, data, tau=0, fusion=module), fused)
    assert not np.array_equal(pixels_of(codec, data, tau=0, steps=1, fusion=module), fused)


def test_a_second_tau_costs_no_sampling(codec, module, monkeypatch):
    data = codec.compress(Image.open("photo.png"))
    runs = []
    forward = LatentFusionModel.forward

    def count(self, *args, **options):
        runs.append(1)
        return forward(self, *args, **options)

    monkeypatch.setattr(LatentFusionModel, "forward", count)
    for tau in (0, 0.3, 0.6):
        codec.decompress(data, tau=tau, fusion=module)
    assert len(runs) == 10
    codec.decompress(data, tau=0.3, steps=2, fusion=module)
    assert len(runs) == 12
    other = codec.compress(Image.open("photo.png").rotate(180))
    codec.decompress(other, tau=0.3, steps=2, fusion=module)
    assert len(runs) == 14


def test_files_alike_but_for_their_latents_are_told_apart(codec, module):
    """Files without a fixed-point path have no checksum of their symbols."""
    photo = Image.open("photo.png")
    files = [codec.compress(picture, quality=3) for picture in (photo, photo.rotate(180))]
    decoded = [codec.decode_latents(data) for data in files]
    alike = [
        replace(latents, seed=1, header=replace(latents.header, symbols_crc=0))
        for latents in decoded
    ]
    dial = {"tau": 0.0, "steps": 1, "fusion": str(module)}
    in_turn = [LatentFusionEnhancer().enhance(latents, **dial) for latents in alike]
    enhancer.LAST.clear()
    alone = LatentFusionEnhancer().enhance(alike[1], **dial)
    assert torch.equal(in_turn[1], alone)
    assert not torch.equal(*in_turn)


def test_the_codec_is_not_kept(module, checkpoints):
    codec = ModelCodec.from_pretrained(checkpoints / DEFAULT)
    codec.decompress(codec.compress(Image.open("photo.png")), tau=0, steps=1, fusion=module)
    model = weakref.ref(codec.model)
    del codec
    gc.collect()
    assert model() is None


def test_the_noise_is_a_function_of_the_file(codec, module):
    data = codec.compress(Image.open("photo.png"))
    enhancer.LAST.clear()
    torch.manual_seed(1)
    first = pixels_of(codec, data, tau=0, fusion=module)
    enhancer.LAST.clear()
    torch.manual_seed(2)
    assert np.array_equal(pixels_of(codec, data, tau=0, fusion=module), first)
    header, chunks = unpack(data)
    seeded = pack(replace(header, seed=5), chunks)
    assert not np.array_equal(pixels_of(codec, seeded, tau=0, fusion=module), first)


def test_the_command_and_every_codec(cgen, module, checkpoints):
    """Also the files of a stock model without a fixed-point path, with a module of its own."""
    assert cgen("compress", "photo.png")[0] == 0
    status, _, err = cgen("decompress", "photo.cgen", "a.png", "--tau", 0.3, "--fusion", module)
    assert status == 0, err
    stock = load_model(checkpoints / "mbt2018")
    small_fusion(stock.M).save_pretrained("stock module")
    status, _, err = cgen(
        "compress", "photo.png", "b.cgen", "--checkpoint", checkpoints / "mbt2018"
    )
    assert status == 0, err
    status, _, err = cgen("decompress", "b.cgen", "b.png", "--tau", 0, "--fusion", "stock module")
    assert status == 0, err
    assert cgen("decompress", "b.cgen", "c.png")[0] == 0
    assert not np.array_equal(np.asarray(Image.open("b.png")), np.asarray(Image.open("c.png")))


def test_the_embedded_module_is_used_and_wishes_are_followed(codec, module, monkeypatch):
    monkeypatch.setattr(enhancer, "EMBEDDED", module)
    photo = Image.open("photo.png")
    wished = codec.compress(photo, tau=0)
    assert unpack(wished)[0].tau == 0
    fused = pixels_of(codec, wished)
    assert np.array_equal(fused, pixels_of(codec, codec.compress(photo), tau=0))
    assert not np.array_equal(fused, pixels_of(codec, wished, tau=1))


def test_without_a_module_the_wish_is_told_and_the_order_refused(codec, monkeypatch, work):
    monkeypatch.setattr(enhancer, "EMBEDDED", work / "nothing")
    photo = Image.open("photo.png")
    with pytest.warns(SynthesisWarning, match=r"wish \(tau\) is not followed: no fusion module"):
        followed = pixels_of(codec, codec.compress(photo, tau=0.2))
    assert codec.enhanced is None
    assert np.array_equal(followed, pixels_of(codec, codec.compress(photo)))
    with pytest.raises(CheckpointError, match="no fusion module for cheng2020-anchor-vbr"):
        codec.decompress(codec.compress(photo), tau=0.2)


def test_a_module_of_another_base(cgen, codec, module, monkeypatch):
    monkeypatch.setattr(LatentFusionModel, "forward", None)  # nothing is sampled
    other = {"base_fingerprint": "0" * 12, "base_synthesis": "0000"}
    small_fusion(16, rate_points=10, **other).save_pretrained("other")
    small_fusion(24, rate_points=10).save_pretrained("wide")
    cgen("compress", "photo.png")
    dial = ("decompress", "photo.cgen", "a.png", "--tau", 0, "--fusion")
    assert_one_line(cgen(*dial, "other"), "trained for", "000000000000")
    assert_one_line(cgen(*dial, "wide"), "16 channels", "24")
    assert_one_line(cgen(*dial, "nowhere"), "nowhere")
    assert_one_line(cgen(*dial[:-2], 2), "--tau 2 is not in 0..1")
    assert_one_line(cgen(*dial[:-1], "--steps", 0), "--steps 0 is not in 1..1000")
    latents = codec.decode_latents(codec.compress(Image.open("photo.png")))
    with pytest.raises(OptionError, match=r"tau 1\.5"):
        LatentFusionEnhancer().enhance(latents, tau=1.5)


@pytest.mark.parametrize(
    "written", [{"width": "128"}, {"units": 3.5}, {"base_fingerprint": 5}, {"width": 17}, 7]
)
def test_a_mistyped_config(cgen, module, written):
    file = module / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, **written} if isinstance(written, dict) else written))
    cgen("compress", "photo.png")
    dial = ("decompress", "photo.cgen", "a.png", "--tau", 0, "--fusion", module)
    assert_one_line(cgen(*dial), "fusion module")


def test_evaluation_over_tau(cgen, module, work, checkpoints):
    """One result file a tau, of the same files."""
    (work / "pictures").mkdir()
    Image.open("photo.png").save("pictures/photo.png")
    run = ("evaluate", "pictures", "--out", "r.json", "--metrics", "psnr-rgb", "--quality", "2,6")
    run = (*run, "--checkpoint", checkpoints / DEFAULT)
    status, _, err = cgen(*run, "--tau", "0,1", "--steps", 1, "--fusion", module)
    assert status == 0, err
    fused, plain = (json.loads((work / f"r-tau{tau}.json").read_text()) for tau in (0, 1))
    assert fused["name"] == f"{DEFAULT}-tau0"
    assert fused["results"]["bpp"] == plain["results"]["bpp"]
    assert fused["results"]["psnr-rgb"] != plain["results"]["psnr-rgb"]
    assert fused["model"]["options"] == {"tau": "0", "steps": "1", "fusion": str(module)}
    assert cgen(*run)[0] == 0
    bare = json.loads((work / "r.json").read_text())
    assert bare["results"]["psnr-rgb"] == plain["results"]["psnr-rgb"]
