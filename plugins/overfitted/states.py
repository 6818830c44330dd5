"""Where fits keep their states."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from compressai_gen.errors import CodecError
from compressai_gen.training.state_file import StateFile


def kept(folder: Path | None, x: Tensor, **settings: object) -> StateFile | None:
    """The state of a fit to pictures x with some settings; None without a folder.

    A fit has a file of its own there, named by all that it depends on, so that a search for a rate
    and a list of pictures go on, too: what is finished is only read.

    Raises:
        CodecError: the folder cannot be made.
    """
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CodecError(
            f"cannot make the folder {folder} for states ({error.strerror}): give another one"
        ) from error
    identity: dict[str, str | int | float] = {"picture": checksum([x])}
    identity |= {name: str(value) for name, value in settings.items()}
    return StateFile(folder / f"{zlib.crc32(repr(identity).encode()):08x}.state", identity)


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC32 of shapes and numbers."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(str(tuple(tensor.shape)).encode(), crc)
        crc = zlib.crc32(tensor.detach().cpu().contiguous().numpy().tobytes(), crc)
    return crc
