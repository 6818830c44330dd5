"""The tensors of a checkpoint folder: reading them, and filling a model without tolerance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from compressai_gen.checkpoints.layout import (
    CONFIG_NAME,
    INDEX_NAME,
    WEIGHTS_NAME,
    WEIGHTS_NAMES,
)
from compressai_gen.entropy.restore import float_weights, restore
from compressai_gen.errors import CheckpointError
from compressai_gen.models.state_dicts import resize_empty_buffers


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load every tensor, size the tables on the way, and accept no difference.

    The float entropy networks of an exported model may be left out: its integers hold them.

    Raises:
        CheckpointError: if a tensor is missing, superfluous or of another shape.
    """
    resize_empty_buffers(model, tensors)
    left_out = stored_as_integers(model).difference(tensors)
    own = model.state_dict()
    try:
        nn.Module.load_state_dict(model, {**tensors, **{name: own[name] for name in left_out}})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        shown = " ".join(lines[:3]) + (f" (and {len(lines) - 3} more)" if len(lines) > 3 else "")
        raise CheckpointError(
            f"{where}: the weights do not fit the architecture in {CONFIG_NAME}: {shown}"
        ) from None
    if left_out:
        restore(model, left_out)


def stored_as_integers(model: nn.Module) -> set[str]:
    """Names of the float tensors that the integers of an exported model hold as well."""
    exported = getattr(model, "portable", None) is not None
    return set(float_weights(model)) if exported else set()


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder, from one safetensors file or from shards.

    Raises:
        CheckpointError: if a file is missing or damaged.
    """
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            tensors.update(load_file(path))
        except FileNotFoundError:
            raise CheckpointError(f"{folder} is incomplete: {path.name} is missing") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} is damaged or not a safetensors file ({error}): fetch it again"
            ) from None
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX_NAME
    if index.exists():
        try:
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / Path(name).name for name in sorted(set(shards))]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{index} is damaged: {error}") from None
    for name in WEIGHTS_NAMES:
        if (folder / name).exists():
            return [folder / name]
    raise CheckpointError(f"{folder} has a {CONFIG_NAME} but no weights: expected {WEIGHTS_NAME}")
