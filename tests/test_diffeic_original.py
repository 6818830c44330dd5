"""Stable Diffusion in its original layout: the same networks and prompt as from a folder."""

from __future__ import annotations

import functools
import socket

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from original_sd import original
from safetensors.torch import save_file
from small_diffeic import save_tokenizer, small_unet, small_vae
from small_models import picture
from test_diffeic_convert import TINY_UNET, checkpoint
from transformers import CLIPTextConfig, CLIPTextModel

from compressai_gen.cli.main import main
from compressai_gen.errors import CheckpointError
from compressai_gen_plugins.diffeic import original as module
from compressai_gen_plugins.diffeic.convert import open_prior
from compressai_gen_plugins.diffeic.original import SD_2_1, networks, open_original

TEXT = {
    "vocab_size": 4,
    "hidden_size": 12,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 7,
    "hidden_act": "gelu",
}
PUBLISHED = {
    "scale_factor": 0.18215,
    "unet_config": {
        "params": {
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 320,
            "attention_resolutions": [4, 2, 1],
            "num_res_blocks": 2,
            "channel_mult": [1, 2, 4, 4],
            "num_head_channels": 64,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": True,
            "transformer_depth": 1,
            "context_dim": 1024,
        }
    },
    "first_stage_config": {
        "params": {
            "ddconfig": {
                "double_z": True,
                "z_channels": 4,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 128,
                "ch_mult": [1, 2, 4, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
            }
        }
    },
}
"""The configuration that Stability AI published with SD 2.1-base."""

LANDMARKS = {
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
    "model.diffusion_model.input_blocks.9.0.op.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
    "model.diffusion_model.output_blocks.8.2.conv.weight": (640, 640, 3, 3),
    "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
    "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
    "cond_stage_model.model.positional_embedding": (77, 1024),
    "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
}
"""Names and shapes of v2-1_512-ema-pruned."""

FIRST_BIAS = "model.diffusion_model.input_blocks.0.0.bias"


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    """A tiny Stable Diffusion in diffusers' layout, with SD 2's order of special tokens."""
    folder = tmp_path_factory.mktemp("sd")
    small_vae().save_pretrained(folder / "vae")
    small_unet(**TINY_UNET).save_pretrained(folder / "unet")
    torch.manual_seed(0)
    CLIPTextModel(CLIPTextConfig(**TEXT)).save_pretrained(folder / "text_encoder")
    save_tokenizer(folder, ("!", "a", "<|startoftext|>", "<|endoftext|>"))
    return folder


@pytest.fixture(scope="module")
def parts(sd):
    """VAE, UNet and text encoder of the folder."""
    return (
        AutoencoderKL.from_pretrained(sd, subfolder="vae"),
        UNet2DConditionModel.from_pretrained(sd, subfolder="unet"),
        CLIPTextModel.from_pretrained(sd, subfolder="text_encoder"),
    )


@pytest.fixture(scope="module")
def state(parts):
    return {name: tensor.contiguous() for name, tensor in original(*parts).items()}


@pytest.fixture(scope="module")
def sizes(parts):
    vae, unet, _ = parts
    return {"vae": arguments(vae), "unet": arguments(unet), "text": TEXT}


@pytest.fixture
def small(monkeypatch, sizes):
    """The converter expects the tiny Stable Diffusion."""
    monkeypatch.setattr(module, "open_original", functools.partial(open_original, sizes=sizes))


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def arguments(network):
    """Of the constructor, as recorded."""
    return {k: v for k, v in network.config.items() if not k.startswith("_")}


def same(given, expected):
    """Whether two networks have the same tensors and configuration."""
    assert arguments(given) == arguments(expected)
    assert not given.training
    ours, theirs = given.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["nested.ckpt", "bare.ckpt", "bare.safetensors"])
@pytest.mark.usefixtures("offline")
def test_a_file_is_the_same_as_the_folder(name, state, sizes, parts, sd, tmp_path):
    path = tmp_path / name
    if name == "bare.safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "global_step": 1} if "nested" in name else state, path)
    prior = open_original(path, torch.float32, sizes)
    same(prior["vae"], parts[0])
    same(prior["unet"], parts[1])
    assert prior["prompt"].shape == (1, 7, 12)
    torch.testing.assert_close(prior["prompt"], open_prior(str(sd), half=False)["prompt"])


@pytest.mark.parametrize(("stored", "wanted"), [("float32", "float16"), ("float16", "float32")])
def test_a_file_of_another_precision(stored, wanted, state, sizes, tmp_path):
    tensors = {name: tensor.to(getattr(torch, stored)) for name, tensor in state.items()}
    torch.save(tensors, tmp_path / "sd.ckpt")
    prior = open_original(tmp_path / "sd.ckpt", getattr(torch, wanted), sizes)
    for network in (prior["vae"], prior["unet"]):
        assert {p.dtype for p in network.parameters()} == {getattr(torch, wanted)}
    assert torch.equal(prior["unet"].conv_in.bias.half(), state[FIRST_BIAS].half())
    assert prior["prompt"].dtype == torch.float32


@pytest.mark.usefixtures("small", "offline")
def test_a_converted_file_is_a_pipeline(state, parts, tmp_path):
    torch.save(checkpoint(), tmp_path / "lc.ckpt")
    torch.save({"state_dict": state}, tmp_path / "sd.ckpt")
    options = ["--sd", str(tmp_path / "sd.ckpt"), "--out", str(tmp_path / "pipe")]
    assert not main(["convert", "diffeic", str(tmp_path / "lc.ckpt"), *options])
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "pipe")
    pipe.set_progress_bar_config(disable=True)
    same(pipe.vae, parts[0])
    same(pipe.unet, parts[1])
    data = pipe.compress(picture(72, 100))
    assert pipe.decompress(data, num_inference_steps=2).size == (100, 72)


class Runs:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def without(*ends):
    return lambda state, _: {k: v for k, v in state.items() if not k.endswith(ends)}


def with_more(name, shape):
    return lambda state, _: {**state, f"model.diffusion_model.{name}": torch.zeros(shape)}


MISTAKES = {
    "UNet tensor": (without("middle_block.1.norm.bias"), 'in state_dict: "mid_block.attentions.0'),
    "converter's tensor": (without("output_blocks.2.1.conv.bias"), "(no 'output_blocks.2.1.conv"),
    "VAE tensor": (without("decoder.norm_out.weight"), "AutoencoderKL: Missing key"),
    "text tensor": (
        without("ln_final.bias"),
        'CLIPTextModel: Missing key(s) in state_dict: "final',
    ),
    "inpainting": (
        with_more("input_blocks.0.0.weight", (64, 9, 3, 3)),
        "size mismatch for conv_in",
    ),
    "unCLIP": (with_more("label_emb.0.0.weight", (4, 4)), "label_emb"),
    "another's block": (with_more("middle_block.1.x.weight", (4,)), "Unexpected key(s)"),
    "SD 1": (
        lambda state, _: {k.replace("model.model.", "model.transformer."): state[k] for k in state},
        "no tensor of it is named cond_stage_model.model.*",
    ),
    "a DiffEIC": (lambda *_: checkpoint(), "no tensor of it is named first_stage_model.*"),
    "a list": (lambda *_: [torch.zeros(3)], "no tensor of it is named first_stage_model.*"),
    "code": (lambda state, path: {"state_dict": state, "x": Runs(path / "ran")}, "never loaded"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("small", "offline")
def test_a_mistake_is_one_line_and_leaves_nothing(mistake, state, tmp_path, capsys):
    content, message = MISTAKES[mistake]
    torch.save(checkpoint(), tmp_path / "lc.ckpt")
    torch.save(content(state, tmp_path), tmp_path / "sd.ckpt")
    options = ["--sd", str(tmp_path / "sd.ckpt"), "--out", str(tmp_path / "pipe")]
    assert main(["convert", "diffeic", str(tmp_path / "lc.ckpt"), *options]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told
    assert "sd.ckpt" in told
    assert "lc.ckpt does not fit" not in told
    assert {path.name for path in tmp_path.iterdir()} == {"lc.ckpt", "sd.ckpt"}


def test_a_small_file_is_not_the_released_one(state, tmp_path):
    torch.save(state, tmp_path / "sd.ckpt")
    with pytest.raises(CheckpointError, match="give v2-1_512-ema-pruned"):
        open_prior(str(tmp_path / "sd.ckpt"), half=False)


def test_every_tensor_has_its_place_at_full_size():
    with torch.device("meta"):
        vae, unet = AutoencoderKL(**SD_2_1["vae"]), UNet2DConditionModel(**SD_2_1["unet"])
        state = original(vae, unet, CLIPTextModel(CLIPTextConfig(**SD_2_1["text"])))
    assert {name: tuple(state[name].shape) for name in LANDMARKS} == LANDMARKS
    made = networks(state, torch.float32, SD_2_1)
    counts = [sum(p.numel() for p in network.parameters()) for network in made]
    assert counts == [83_653_863, 865_910_724, 340_387_840]


def test_the_sizes_are_the_published_ones():
    config = {"model": {"params": PUBLISHED}}
    for kind in ("unet", "vae"):
        convert = getattr(single_file_utils, f"create_{kind}_diffusers_config_from_ldm")
        published = convert(original_config=config, checkpoint={})
        cls = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[kind]
        with torch.device("meta"):
            own = cls(**SD_2_1[kind]).config
        for name in published.keys() - {"sample_size"}:
            given = published[name]
            assert own[name] == (tuple(given) if isinstance(given, list) else given), name
