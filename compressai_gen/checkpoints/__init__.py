"""Checkpoints: a folder in Hub layout, found, read, checked and written.

.. code-block:: none

    folder/
      config.json                              architecture, its arguments, the fixed-point layout
      diffusion_pytorch_model.safetensors      CompressAI's names; ``portable.*`` for fixed point
      README.md                                model card

The same folder is a diffusers component (``CompressionModelComponent.from_pretrained``), a zoo
model (``zoo_factory(checkpoint=folder)``) and what a ``.cgen`` file names by its fingerprint.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compressai_gen.checkpoints.known import Known, cache_folder, find_fingerprint, known
from compressai_gen.checkpoints.layout import CheckpointConfig, read_config

if TYPE_CHECKING:
    from compressai_gen.checkpoints.architectures import (
        architecture_class,
        architecture_names,
        architecture_of,
        build,
        build_model,
        constructor_arguments,
        metric_of,
    )
    from compressai_gen.checkpoints.card import model_card
    from compressai_gen.checkpoints.convert import convert_compressai
    from compressai_gen.checkpoints.fingerprint import model_fingerprint
    from compressai_gen.checkpoints.folder import compressai_state_dict, load_model, save_model
    from compressai_gen.checkpoints.stock import stock_checkpoint

# These need torch and compressai, which finding a checkpoint does not.
_HEAVY = {
    "architecture_class": "architectures",
    "architecture_names": "architectures",
    "architecture_of": "architectures",
    "build": "architectures",
    "build_model": "architectures",
    "constructor_arguments": "architectures",
    "model_card": "card",
    "compressai_state_dict": "folder",
    "convert_compressai": "convert",
    "load_model": "folder",
    "metric_of": "architectures",
    "model_fingerprint": "fingerprint",
    "save_model": "folder",
    "stock_checkpoint": "stock",
}

__all__ = [
    "CheckpointConfig",
    "Known",
    "architecture_class",
    "architecture_names",
    "architecture_of",
    "build",
    "build_model",
    "cache_folder",
    "compressai_state_dict",
    "constructor_arguments",
    "convert_compressai",
    "find_fingerprint",
    "known",
    "load_model",
    "metric_of",
    "model_card",
    "model_fingerprint",
    "read_config",
    "save_model",
    "stock_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HEAVY[name]}"), name)
