"""Checkpoints known on this machine, and the one a file's fingerprint names."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from compressai_gen.checkpoints.layout import (
    CONFIG_NAME,
    INDEX_NAME,
    WEIGHTS_NAMES,
    CheckpointConfig,
    model_folder,
)
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
        synthesis: 2 bytes, likewise.
        metric: what it was trained for.
        quality: zoo quality of a single-rate model, else None.
        embedded: whether it ships inside a plugin.
        downloaded: whether it lies in the Hub's cache. What a download left there is found by a
            file's fingerprint, but is nobody's choice of weights for an architecture's name.
    """

    folder: Path
    architecture: str
    fingerprint: bytes | None
    synthesis: bytes | None
    metric: str
    quality: int | None
    embedded: bool
    downloaded: bool = False


def cache_folder() -> Path:
    """Where exports of stock models are kept: ``COMPRESSAI_GEN_CACHE`` or ``~/.cache/...``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "compressai-gen" / "checkpoints"


def known() -> list[Known]:
    """Every checkpoint on this machine, in the order in which they are searched.

    First those that ship with a plugin, then the folders in ``COMPRESSAI_GEN_CHECKPOINTS``
    (separated as in ``PATH``), then the exports of stock models in the cache, then what was
    downloaded from the Hugging Face Hub (``HF_HUB_CACHE``, or ``hub`` below ``HF_HOME``, as
    huggingface_hub reads them). A place may be a checkpoint itself, hold several (or saved
    pipelines), or both: a plugin's current one in the place itself and its older ones, which must
    stay decodable, in folders inside.
    """
    return list(_search())


def find_fingerprint(fingerprint: bytes, synthesis: bytes | None = None) -> Path:
    """The folder of the checkpoint a file was written with.

    Where several have its fingerprint, as a model and one fine-tuned from it behind a frozen
    bottleneck, that of its synthesis; else one of an unknown synthesis; else the first.

    Args:
        fingerprint: 6 bytes from the file's header.
        synthesis: 2 bytes from there; None for whichever comes first.

    Raises:
        UnknownCheckpointError: if no checkpoint on this machine has it.
    """
    alike: list[Known] = []
    others = 0
    for entry in _search():
        if entry.fingerprint != fingerprint:
            others += 1
        elif synthesis in (None, entry.synthesis):
            return entry.folder
        else:
            alike.append(entry)
    if alike:
        return next((entry for entry in alike if entry.synthesis is None), alike[0]).folder
    raise UnknownCheckpointError(
        f"the file was written with checkpoint {fingerprint.hex()}, which is not on this machine "
        f"({others} others are): pass --checkpoint with its folder or Hub repo id, or add "
        f"its folder to {CHECKPOINTS_VARIABLE}"
    )


def _search() -> Iterator[Known]:
    """As `known`, one by one: the Hub's cache is read only if nothing before it will do."""
    for place in _embedded():
        yield from _inside(place, embedded=True)
    for listed in os.environ.get(CHECKPOINTS_VARIABLE, "").split(os.pathsep):
        if listed:
            yield from _inside(Path(listed).expanduser(), embedded=False)
    yield from _inside(cache_folder(), embedded=False)
    yield from _downloaded()


def _inside(place: Path, embedded: bool) -> Iterator[Known]:
    """``place`` if it is a checkpoint, and the checkpoints and pipelines directly inside it.

    What an interrupted copy or download left without weights is no checkpoint.
    """
    try:
        folders = [place, *map(model_folder, sorted(place.iterdir()))]
    except OSError:  # no such folder, or closed to us
        return
    for folder in folders:
        weights = (folder / name for name in (INDEX_NAME, *WEIGHTS_NAMES))
        # never raises, unlike Path.is_file
        if not (os.path.isfile(folder / CONFIG_NAME) and any(map(os.path.isfile, weights))):
            continue
        try:
            config = CheckpointConfig.read(folder)
        except CheckpointError:  # not a checkpoint of ours: nothing to decode with
            continue
        yield Known(
            folder=folder,
            architecture=config.architecture,
            fingerprint=bytes.fromhex(config.fingerprint) if config.fingerprint else None,
            synthesis=bytes.fromhex(config.synthesis) if config.synthesis else None,
            metric=config.metric,
            quality=config.quality,
            embedded=embedded,
        )


def _downloaded() -> Iterator[Known]:
    """Checkpoints in the Hub's cache: of every repository each revision that is there.

    Mostly other people's models, of which only config.json is read. Ours have a fingerprint.
    """
    from huggingface_hub import constants

    for snapshot in sorted(Path(constants.HF_HUB_CACHE).glob("models--*/snapshots/*")):
        for entry in _inside(snapshot, embedded=False):
            if entry.fingerprint:
                yield replace(entry, downloaded=True)


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
