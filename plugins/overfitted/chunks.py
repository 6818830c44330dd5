"""Several chunks as one of CompressAI's strings."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from compressai_gen.errors import CorruptedFileError


def joined(chunks: Sequence[bytes]) -> bytes:
    """Lengths of all but the last, four bytes each, then the chunks."""
    lengths = struct.pack(f">{len(chunks) - 1}I", *map(len, chunks[:-1]))
    return lengths + b"".join(chunks)


def parted(string: bytes, count: int) -> list[bytes]:
    """The chunks of a string.

    Raises:
        CorruptedFileError: it ends before they do.
    """
    place = 4 * (count - 1)
    if len(string) < place:
        raise CorruptedFileError("the string of a picture ends before its chunks are described")
    chunks = []
    for length in struct.unpack(f">{count - 1}I", string[:place]):
        if place + length > len(string):
            raise CorruptedFileError("the string of a picture ends inside a chunk")
        chunks.append(string[place : place + length])
        place += length
    return [*chunks, string[place:]]
