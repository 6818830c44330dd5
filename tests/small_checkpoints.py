"""The folder of a small checkpoint, and the fixtures that write one."""

from __future__ import annotations

import pytest
from small_models import STOCK, small_model

from compressai_gen.checkpoints import save_model

NAME = "mbt2018-mean"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def model():
    return small_model(NAME)


@pytest.fixture
def folder(tmp_path, model):
    return save_model(model, tmp_path / "codec", architecture=NAME, arguments=STOCK[NAME])
