"""Checkpoints known on this machine, and the one a file's fingerprint names."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compressai_gen.checkpoints.layout import CheckpointConfig
from compressai_gen.errors import CheckpointError, UnknownCheckpointError

CHECKPOINTS_VARIABLE = "COMPRESSAI_GEN_CHECKPOINTS"
CACHE_VARIABLE = "COMPRESSAI_GEN_CACHE"


@dataclass(frozen=True)
class Known:
    """A checkpoint on this machine.

    Attributes:
        folder: where it lies.
        architecture: zoo name.
        fingerprint: 6 bytes, as in a file's header, or None if the config has none.
        metric: what it was trained for.
        quality: zoo quality of a single-rate model, else None.
        embedded: whether it ships inside a plugin.
    """

    folder: Path
    architecture: str
    fingerprint: bytes | None
    metric: str
    quality: int | None
    embedded: bool


def cache_folder() -> Path:
    """Where exports of stock models are kept: ``COMPRESSAI_GEN_CACHE`` or ``~/.cache/...``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "compressai-gen" / "checkpoints"


def known() -> list[Known]:
    """Every checkpoint on this machine, in the order in which they are searched.

    First those that ship with a plugin, then the folders in ``COMPRESSAI_GEN_CHECKPOINTS``
    (separated as in ``PATH``), then the exports of stock models in the cache. A place may be a
    checkpoint itself, hold several, or both: a plugin's current one in the place itself and its
    older ones, which must stay decodable, in folders inside.
    """
    places = [(place, True) for place in _embedded()]
    listed = os.environ.get(CHECKPOINTS_VARIABLE, "").split(os.pathsep)
    places += [(Path(place).expanduser(), False) for place in listed if place]
    places.append((cache_folder(), False))
    return [entry for place, embedded in places for entry in _inside(place, embedded)]


def find_fingerprint(fingerprint: bytes) -> Path:
    """The folder of the checkpoint a file was written with.

    Args:
        fingerprint: 6 bytes from the file's header.

    Raises:
        UnknownCheckpointError: if no checkpoint on this machine has it.
    """
    entries = known()
    for entry in entries:
        if entry.fingerprint == fingerprint:
            return entry.folder
    raise UnknownCheckpointError(
        f"the file was written with checkpoint {fingerprint.hex()}, which is not on this machine "
        f"({len(entries)} others are): pass --checkpoint, or add its folder to "
        f"{CHECKPOINTS_VARIABLE}"
    )


def _inside(place: Path, embedded: bool) -> Iterator[Known]:
    """``place`` if it is a checkpoint, and the checkpoints directly inside it."""
    if not place.is_dir():
        return
    for folder in (place, *sorted(place.iterdir())):
        try:
            config = CheckpointConfig.read(folder)
        except CheckpointError:  # not a checkpoint of ours: nothing to decode with
            continue
        yield Known(
            folder=folder,
            architecture=config.architecture,
            fingerprint=bytes.fromhex(config.fingerprint) if config.fingerprint else None,
            metric=config.metric,
            quality=config.quality,
            embedded=embedded,
        )


def _embedded() -> Iterator[Path]:
    """Places that the plugins' zoo models name by the detail ``checkpoint="package:folder"``."""
    from compressai_gen.plugins import registry

    models = registry("zoo_models")
    seen = set()
    for name in models.names():
        target = models.entry(name).details.get("checkpoint")
        if target and target not in seen:
            seen.add(target)
            package, _, folder = target.partition(":")
            for root in _package_folders(package):
                yield root / folder


def _package_folders(package: str) -> list[Path]:
    """Where a package lies, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        spec = None
    if spec is None:
        warnings.warn(f"a plugin names a checkpoint in {package}, which is missing", stacklevel=2)
    locations = spec.submodule_search_locations if spec else None
    return [Path(location) for location in locations or ()]
