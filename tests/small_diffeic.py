"""A DiffEIC of tiny real components."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from PIL import Image
from skimage import data
from transformers import CLIPTokenizer

from compressai_gen.models.lfgcm import Lfgcm
from diffusers_codec import CompressionModelComponent, DiffEICControlModel
from diffusers_codec.pipelines.diffeic import DiffEICPipeline, default_scheduler

CODEC = {
    "N": 16,
    "groups": [4, 4, 8],
    "stages": [8, 8, 12],
    "features": 8,
    "context": [12, 8],
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of two photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return folder


def save_tokenizer(folder, words):
    """CLIP's, of a few words and seven tokens, padded as Stable Diffusion 2's."""
    files = folder / "words"
    files.mkdir()
    (files / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (files / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(
        str(files / "vocab.json"), str(files / "merges.txt"), pad_token="!", model_max_length=7
    ).save_pretrained(folder / "tokenizer")


def small_vae(latent_channels=4, blocks=4):
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=4,
        latent_channels=latent_channels,
        layers_per_block=1,
    ).eval()


def tiny_vae():
    torch.manual_seed(2)
    widths = (8, 8, 8, 8)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).eval()


def small_unet(**changes):
    torch.manual_seed(3)
    arguments = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**arguments, **changes}).eval()


def small_lfgcm(**changes):
    torch.manual_seed(0)
    model = Lfgcm(**{**CODEC, **changes})
    with torch.no_grad():
        for parameter in model.g_a.conv_out.parameters():
            parameter.mul_(40)  # so that the strings are not empty
        for parameter in model.h_a.conv_out.parameters():
            parameter.mul_(10)
    model.export()
    return model.eval()


def steering(unet):
    """A control module whose zero convolutions are not zero."""
    torch.manual_seed(4)
    control = DiffEICControlModel.from_unet(unet, 0.5, prompt=torch.randn(1, 3, 12)).eval()
    for convs in (control.encoder_convs, control.decoder_convs, [control.middle_conv]):
        for conv in convs:
            torch.nn.init.normal_(conv.weight, std=0.05)
    return control


def small_pipeline(**parts):
    unet = parts.pop("unet", None) or small_unet()
    made = {
        "vae": small_vae(),
        "unet": unet,
        "control": parts.pop("control", None) or steering(unet),
        "codec": CompressionModelComponent.from_compressai(small_lfgcm()),
        "scheduler": default_scheduler(),
    }
    pipe = DiffEICPipeline(**{**made, **parts})
    pipe.set_progress_bar_config(disable=True)
    return pipe
