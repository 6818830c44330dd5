"""Small latent fusion networks that do something, pipelines around them, and fixtures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from PIL import Image
from small_models import picture
from toys import exported

from compressai_gen.bitstream import pack, unpack
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.pipelines.latent_fusion import LatentFusionPipeline, default_scheduler


def small_fusion(channels: int = 24, seed: int = 0, **options: Any) -> LatentFusionModel:
    """D with random weights everywhere, unlike a fresh one, which is the identity."""
    torch.manual_seed(seed)
    options = {"width": 16, "units": 2, **options}
    fusion = LatentFusionModel(latent_channels=channels, **options).eval()
    torch.nn.init.normal_(fusion.conv_out.weight, std=0.1)
    fusion.set_statistics(torch.randn(channels), 0.5 + torch.rand(channels))
    return fusion


def latent(channels: int = 24, height: int = 3, width: int = 5, seed: int = 1) -> torch.Tensor:
    """Normal noise in the shape of a latent, (1, channels, height, width)."""
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def component(architecture: str, seed: int = 0) -> CompressionModelComponent:
    """A small model with its fixed-point entropy path, where it has one."""
    return CompressionModelComponent.from_compressai(exported(architecture, seed))


def small_pipeline(
    architecture: str = "mbt2018-mean", channels: int = 24, **options: Any
) -> LatentFusionPipeline:
    """A quiet pipeline; the options are those of D."""
    fusion = small_fusion(channels, **options)
    pipe = LatentFusionPipeline(component(architecture), fusion, default_scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe():
    return small_pipeline()


@pytest.fixture(scope="module")
def photograph():
    return Image.fromarray((picture(50, 70)[0] * 255).byte().permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def data(pipe, photograph):
    return pipe.compress(photograph)


@pytest.fixture
def runs(monkeypatch):
    """Counts the evaluations of D, in all its instances."""
    counted, forward = [], LatentFusionModel.forward

    def count(self, *args, **options):
        counted.append(self)
        return forward(self, *args, **options)

    monkeypatch.setattr(LatentFusionModel, "forward", count)
    return counted


def base(pipe, data):
    return pipe.codec.codec().decompress(data, output_type="pt")


def wishing(data, **wishes):
    """The same file with a sender's wishes in its header."""
    header, chunks = unpack(data)
    return pack(dataclasses.replace(header, **wishes), chunks)
