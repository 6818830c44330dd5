"""Loading and saving a checkpoint folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from compressai.models import CompressionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from compressai_gen.checkpoints.architectures import build_model, metric_of
from compressai_gen.checkpoints.card import model_card
from compressai_gen.checkpoints.fingerprint import (
    check_fingerprint,
    model_fingerprint,
    stored_synthesis,
)
from compressai_gen.checkpoints.layout import (
    CARD_NAME,
    CONFIG_NAME,
    INDEX_NAME,
    WEIGHTS_NAME,
    CheckpointConfig,
    locate,
)
from compressai_gen.checkpoints.weights import fill, read_tensors, stored_as_integers
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.state_dicts import without_portable


def load_model(source: str | Path, device: str | torch.device = "cpu") -> CompressionModel:
    """A trained model, in evaluation mode.

    Args:
        source: a checkpoint folder, a safetensors file in it, a saved pipeline's folder, or a Hub
            repo id ("org/name", "org/name@revision"; from the cache when offline).
        device: where the model goes. Everything stays float32.

    Returns:
        A model of CompressAI's class for that architecture. Its integer tables are the stored
        ones. If the checkpoint holds a fixed-point entropy path it is ``model.portable``.

    Raises:
        CheckpointError: if the checkpoint is missing, incomplete, damaged or a pickle.
        UnknownNameError: if its architecture is registered nowhere.
    """
    folder = locate(source)
    config = CheckpointConfig.read(folder)
    model = model_from_config(config)
    fill(model, read_tensors(folder), str(folder))
    check_fingerprint(model, config.fingerprint, str(folder))
    return model.to(device).eval()


def compressai_state_dict(source: str | Path) -> dict[str, Tensor]:
    """The state dict that a stock class's ``from_state_dict`` takes: without ``portable.*``.

    Args:
        source: as for :func:`load_model`.

    Raises:
        CheckpointError: if the checkpoint is missing or damaged.
    """
    return without_portable(load_model(source).state_dict())


def save_model(
    model: CompressionModel,
    folder: str | Path,
    *,
    architecture: str,
    arguments: Mapping[str, Any],
    quality: int | None = None,
    metric: str | None = None,
    card: str | None = None,
    license: str | None = None,
    half: bool = False,
) -> Path:
    """Write a checkpoint folder: complete, or not at all.

    It is written beside ``folder`` and renamed. A checkpoint that is already there is replaced; a
    README.md in it is kept unless ``card`` is given. Any other existing folder is left alone.

    Args:
        model: its tables must exist (``model.update()``); ``model.portable`` is saved with it.
        folder: target.
        architecture: zoo name.
        arguments: keyword arguments that build the model (see ``constructor_arguments``).
        quality: the zoo quality a single-rate model was trained for.
        metric: what it was trained for; by default what its class says, or else "mse".
        card: text of README.md; by default one is generated.
        license: the Hub's licence identifier for a generated card ("apache-2.0", ...).
        half: store the trained weights in half precision, and the entropy networks as integers
            alone; all are loaded as float32. Files stay readable, because the integers of an
            exported model are stored as they are.

    Returns:
        ``folder`` as a path.

    Raises:
        CheckpointError: if ``folder`` exists and is not a checkpoint, or the tables are missing.
        OptionError: if ``half`` is asked of a model without a fixed-point entropy path.
    """
    folder = Path(folder).expanduser()
    check_replaceable(folder)
    check_tables(model)
    portable = getattr(model, "portable", None)
    writes_files = portable is not None or _has_tables(model)
    if half and writes_files and portable is None:
        raise OptionError(f"{architecture} is not exported: half precision would move its tables")
    twice = stored_as_integers(model) if half else set()
    trained = {name for name, _ in model.named_parameters()} if half else set()
    tensors = {
        name: (tensor.half() if name in trained else tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if name not in twice
    }
    config = CheckpointConfig(
        architecture=architecture,
        arguments=dict(arguments),
        portable=None if portable is None else portable.config,
        quality=quality,
        metric=metric or metric_of(model),
        fingerprint=model_fingerprint(model).hex() if writes_files else None,
        synthesis=stored_synthesis(tensors).hex() if writes_files else None,
    )
    if card is None and (folder / CARD_NAME).exists():
        card = (folder / CARD_NAME).read_text(encoding="utf-8")
    if card is None:
        card = model_card(config, license=license)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (temporary / CARD_NAME).write_text(card, encoding="utf-8")
        save_file(tensors, temporary / WEIGHTS_NAME, metadata={"format": "pt"})
        config.write(temporary)  # last: a folder with a config is complete
        _make_readable(temporary)
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def model_from_config(config: CheckpointConfig) -> CompressionModel:
    """A fresh model with its (empty) fixed-point entropy path attached.

    Raises:
        CheckpointError, UnknownNameError: if the config does not describe one.
    """
    model = build_model(config.architecture, config.arguments)
    if config.portable is not None:
        from compressai_gen.entropy import PortableEntropy

        model.add_module("portable", PortableEntropy.from_config(config.portable))
    return model


def check_tables(model: nn.Module) -> None:
    """Refuse a model whose tables were never built: nothing could be decoded with it.

    An exported model has the tables it needs in ``portable``.

    Raises:
        CheckpointError: if an entropy model's table is empty.
    """
    if getattr(model, "portable", None) is not None:
        return
    for name, buffer in model.named_buffers():
        if name.endswith("_quantized_cdf") and buffer.numel() == 0:
            raise CheckpointError(f"the model's table {name} is empty: call model.update() first")


def _has_tables(model: nn.Module) -> bool:
    return any(name.endswith("_quantized_cdf") for name, _ in model.named_buffers())


def check_replaceable(folder: Path) -> None:
    """Refuse a target that holds anything but a checkpoint of ours.

    Raises:
        CheckpointError: if it does.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} exists and is not a folder: choose another name")
    ours = {CONFIG_NAME, CARD_NAME, INDEX_NAME}
    foreign = [
        path.name
        for path in folder.iterdir()
        if path.name not in ours and path.suffix != ".safetensors"
    ]
    if foreign:
        raise CheckpointError(
            f"{folder} exists and holds other files ({', '.join(sorted(foreign)[:3])}): "
            f"choose another folder or move them away"
        )
    if any(folder.iterdir()):
        CheckpointConfig.read(folder)


def _replace(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder``; the old one comes back if that fails."""
    old = Path(f"{new}-old")
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:  # KeyboardInterrupt too
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Permissions as usual: mkdtemp makes 0700, safetensors 0600, whatever the umask says."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)
