"""Fixtures: the default codec with a small random model, and a picture for it."""

from __future__ import annotations

import numpy as np
import pytest
from toys import DEFAULT, exported, pixels

from compressai_gen.codec.model_codec import ModelCodec


@pytest.fixture(scope="module")
def codec() -> ModelCodec:
    return ModelCodec(exported(DEFAULT), DEFAULT)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return pixels(70, 90)
