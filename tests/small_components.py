"""A small model as a diffusers component: fixtures, and what it writes for a picture."""

from __future__ import annotations

import pytest
import torch
from small_models import picture, small_model

from diffusers_codec.models.compression_model import CompressionModelComponent

NAME = "mbt2018-mean"


def strings(model, x=None):
    """What a model writes for a picture; the shape with it."""
    with torch.no_grad():
        out = model.compress(picture() if x is None else x)
    return out["strings"], out["shape"]


@pytest.fixture
def component():
    return CompressionModelComponent.from_compressai(small_model(NAME))


@pytest.fixture
def folder(component, tmp_path):
    component.save_pretrained(tmp_path / "codec")
    return tmp_path / "codec"
