"""Released DiffEIC checkpoints: names and shapes, arithmetic, and a pipeline that opens."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from published_diffeic import TINY, Sizes, codec_shapes, control_shapes, random_state
from reference_diffeic import Reference
from small_diffeic import save_tokenizer, small_unet, small_vae
from small_models import picture
from transformers import CLIPTextConfig, CLIPTextModel

from compressai_gen.cli.main import main
from compressai_gen.errors import CheckpointError
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen.models.lfgcm_zoo import arguments_of
from compressai_gen_plugins.diffeic import convert
from compressai_gen_plugins.diffeic.keys import codec_state, control_state
from diffusers_codec import DiffEICControlModel

TINY_UNET = {
    "block_out_channels": TINY.unet,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "use_linear_projection": True,
}


def checkpoint(spelling="old"):
    """A Lightning checkpoint as released, tiny."""
    codec = random_state(codec_shapes(TINY))
    if spelling == "new":
        for old, new in (("_matrix", "matrices"), ("_bias", "biases"), ("_factor", "factors")):
            codec = {k.replace(f".{old}", f".{new}."): v for k, v in codec.items()}
    codec["entropy_bottleneck._quantized_cdf"] = torch.zeros(16, 9, dtype=torch.int32)
    codec["gaussian_conditional.scale_table"] = torch.ones(64)
    control = random_state(control_shapes(TINY, attention=(0,)), seed=1)
    state = {f"preprocess_model.{k}": v for k, v in codec.items()}
    state |= {f"control_model.{k}": v for k, v in control.items()}
    return {"state_dict": state, "epoch": 3}


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    """A Stable Diffusion in diffusers' layout, tiny."""
    folder = tmp_path_factory.mktemp("sd")
    small_vae().save_pretrained(folder / "vae")
    small_unet(**TINY_UNET).save_pretrained(folder / "unet")
    torch.manual_seed(0)
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=4,
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=7,
        )
    ).save_pretrained(folder / "text_encoder")
    save_tokenizer(folder, ("<|startoftext|>", "<|endoftext|>", "a", "!"))
    return folder


@pytest.fixture(scope="module")
def converted(sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    torch.save(checkpoint(), folder / "lc.ckpt")
    arguments = ["--sd", str(sd), "--out", str(folder / "pipe")]
    assert not main(["convert", "diffeic", str(folder / "lc.ckpt"), *arguments])
    return folder / "pipe"


def test_every_released_tensor_has_its_place_at_full_size():
    codec = {name: torch.zeros(shape) for name, shape in codec_shapes().items()}
    state = codec_state(codec)
    arguments = arguments_of(state)
    assert arguments["groups"] == list(Sizes().groups)
    fresh = Lfgcm(**arguments)
    assert set(state) == {name for name, _ in fresh.named_parameters()} | {
        "entropy_bottleneck.target"
    }
    own = fresh.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {k: tuple(own[k].shape) for k in state}
    control = control_state({k: torch.zeros(v) for k, v in control_shapes().items()}
                            | {"scale_list": torch.ones(25)})  # fmt: skip
    with torch.device("meta"):
        own = DiffEICControlModel().state_dict()
    assert {k: tuple(v.shape) for k, v in control.items()} == {
        k: tuple(v.shape) for k, v in own.items() if k != "prompt"
    }


@torch.no_grad()
def test_the_arithmetic_of_the_compression_module():
    published = random_state(codec_shapes(TINY))
    reference, model = Reference(published), convert.filled_codec(published)
    x = picture(128, 192)
    guidance = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    y, z = model.analysis(x, guidance)
    expected_y, expected_z = reference.analysis(x, guidance)
    torch.testing.assert_close(y, expected_y, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(z, expected_z, atol=1e-5, rtol=1e-4)
    z_hat = z.round()
    y = 6 * y
    parts = model.channel_groups(y, model.h_s(z_hat))
    for got, expected in zip(parts, reference.parameters(y, z_hat, TINY.groups), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    z_c = model.synthesis(parts[0], z_hat)
    torch.testing.assert_close(z_c, reference.synthesis(parts[0], z_hat), atol=1e-4, rtol=1e-4)
    assert z_c.std() > 0.05


@torch.no_grad()
def test_the_arithmetic_of_the_control_module():
    published = random_state(control_shapes(TINY, attention=(0,)), seed=1)
    published["scale_list"] = torch.linspace(0.5, 1.5, len(published["scale_list"]))
    generator = torch.Generator().manual_seed(2)
    x_t, z_c = torch.randn(2, 2, 4, 8, 12, generator=generator)
    prompt, t = torch.randn(2, 7, 12, generator=generator), torch.tensor([3, 700])
    unet = small_unet(**TINY_UNET)
    control = convert.filled_control(published, unet, prompt[:1])
    got = control(x_t, t, z_c, prompt)
    encoder, middle, decoder = Reference(published).control(x_t, t, z_c, prompt, TINY)
    pairs = zip([*got.encoder, got.middle, *got.decoder], [*encoder, middle, *decoder], strict=True)
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_the_folder_is_a_pipeline(converted, sd):
    pipe = DiffusionPipeline.from_pretrained(converted)
    pipe.set_progress_bar_config(disable=True)
    data = pipe.compress(picture(72, 100))
    image = pipe.decompress(data, num_inference_steps=2)
    assert image.size == (100, 72)
    assert pipe.codec.model.portable is not None
    vae = AutoencoderKL.from_pretrained(sd, subfolder="vae")
    assert torch.equal(pipe.vae.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    encoder = CLIPTextModel.from_pretrained(sd, subfolder="text_encoder")
    padded = torch.tensor([[0, 1, 3, 3, 3, 3, 3]])
    assert torch.equal(pipe.control.prompt, encoder(padded)[0].detach())


def test_both_spellings_of_the_entropy_bottleneck():
    old, new = (checkpoint(spelling)["state_dict"] for spelling in ("old", "new"))
    assert "preprocess_model.entropy_bottleneck.matrices.0" in new
    models = [convert.filled_codec(convert.split({"state_dict": s})[0]) for s in (old, new)]
    assert models[0].portable.fingerprint() == models[1].portable.fingerprint()


def test_mistakes_are_told(sd, tmp_path):
    def refused(content, message, **options):
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match=message):
            convert.convert_diffeic(tmp_path / "x.ckpt", tmp_path / "out", sd=str(sd), **options)
        assert not (tmp_path / "out").exists()

    refused([1], "dictionary 'state_dict'")
    refused({"state_dict": {}}, "no tensor of it is named preprocess_model")
    state = checkpoint()["state_dict"]
    some = {k: v for k, v in state.items() if k != "preprocess_model.decoder.g_s4.bias"}
    refused({"state_dict": some}, "no weights for our g_s.conv_out.bias")
    more = {**state, "preprocess_model.decoder.g_s9.bias": torch.zeros(3)}
    refused({"state_dict": more}, "left over: decoder.g_s9.bias")
    fewer = {k: v for k, v in state.items() if "enc_zero_convs_out.0" not in k}
    refused({"state_dict": fewer}, "not the released one")
    torch.save(checkpoint(), tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="sd2-community"):
        convert.convert_diffeic(tmp_path / "x.ckpt", tmp_path / "out", sd=str(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(CheckpointError, match="not empty"):
        convert.convert_diffeic(tmp_path / "x.ckpt", tmp_path / "full", sd=str(sd))
