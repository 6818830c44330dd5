"""Where the weights of metrics and perceptual losses are looked for. Nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from compressai_gen.errors import MissingWeightsError

#: folders to search, separated as in PATH
VARIABLE = "COMPRESSAI_GEN_WEIGHTS"


def folders(given: Path | None = None) -> Iterator[Path]:
    """The folders searched, in order: the one given, `VARIABLE`'s, torch's hub cache."""
    if given is not None:
        yield Path(given)
    for folder in os.environ.get(VARIABLE, "").split(os.pathsep):
        if folder:
            yield Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    yield Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub/checkpoints"


def find_weights(what: str, names: Sequence[str], given: Path | None = None) -> Path:
    """The first file that exists under one of `names` in one of the `folders`.

    Args:
        what: what the weights belong to, for the error.
        names: paths relative to a folder; each is also tried directly inside the folder.
        given: a folder searched first.

    Raises:
        MissingWeightsError: none is there; the message lists the names and the folders.
    """
    searched = list(folders(given))
    for folder in searched:
        for name in names:
            for path in (folder / name, folder / Path(name).name):
                if path.is_file():
                    return path
    raise MissingWeightsError(
        f"{what}: no {' or '.join(names)} in {', '.join(map(str, searched))}; "
        f"put the file in one of these folders, or name its folder by {VARIABLE} (a metric's also "
        "by --weights)"
    )
