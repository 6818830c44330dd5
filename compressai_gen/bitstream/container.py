"""Header and chunks <-> the bytes of a ``.cgen`` file.

::

    | header | length u24 | chunk | length u24 | chunk | ...

The highest bit of a length says that another chunk follows, so that a file cut between two
chunks is known to be cut. One chunk costs 31 bytes over its content, each further one 3.
The payload checksum covers every byte of the file but its own four.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import takewhile

from compressai_gen.bitstream.header import (
    FIELDS,
    FIXED_SIZE,
    KNOWN_FLAGS,
    MAGIC,
    VERSION,
    Header,
    build_header,
    header_size,
    read_fields,
    write_header,
)
from compressai_gen.errors import (
    CorruptedFileError,
    NotACgenFileError,
    OptionError,
    SizeLimitError,
    TruncatedFileError,
    UnsupportedVersionError,
)

MAX_PIXELS = 2**26  # 8192 x 8192; what a reader accepts unless told otherwise
MAX_CHUNK = 2**23 - 1
_MORE = 2**23
_LENGTH = 3
_CRC_AT = sum(field.size for field in takewhile(lambda f: f.name != "payload_crc", FIELDS))


def pack(header: Header, chunks: Sequence[bytes]) -> bytes:
    """The bytes of a ``.cgen`` file.

    Args:
        header: what the file says about itself.
        chunks: at least one, each at most `MAX_CHUNK` bytes.

    Raises:
        OptionError: no chunk, or one that is too long.
    """
    if not chunks:
        raise OptionError("a .cgen file has at least one chunk, none was given")
    for chunk in chunks:
        if len(chunk) > MAX_CHUNK:
            raise OptionError(f"a chunk of {len(chunk)} bytes: at most {MAX_CHUNK}, split it")
    parts = [write_header(header, payload_crc=0)]
    for number, chunk in enumerate(chunks, start=1):
        more = _MORE if number < len(chunks) else 0
        parts += [(len(chunk) | more).to_bytes(_LENGTH, "big"), chunk]
    body = b"".join(parts)
    parts[0] = write_header(header, payload_crc(body))
    return b"".join(parts)


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Header, list[bytes]]:
    """Header and chunks of a ``.cgen`` file, every check passed.

    Nothing is allocated on the word of the file: lengths are compared with the bytes that are
    really there, and the claimed picture with ``max_pixels``.

    Raises:
        NotACgenFileError: the magic number is missing.
        UnsupportedVersionError: a newer version, or flags this version does not know.
        TruncatedFileError: the file ends before its header or a chunk does.
        CorruptedFileError: a checksum does not match, or a field is impossible.
        SizeLimitError: the picture has more than ``max_pixels`` pixels.
    """
    flags = _check_start(data)
    values = read_fields(data, flags)
    chunks = _read_chunks(data, header_size(flags))
    _check_crc(data)
    header = build_header(values)
    if header.pixels > max_pixels:
        raise SizeLimitError(
            f"the file claims {header.width}x{header.height} = {header.pixels} pixels, more than "
            f"the limit of {max_pixels}; raise it with --max-pixels if you trust the file"
        )
    return header, chunks


def payload_crc(data: bytes) -> int:
    """CRC32 of every byte of a file except the four that hold it."""
    return zlib.crc32(data[_CRC_AT + 4 :], zlib.crc32(data[:_CRC_AT]))


def _check_start(data: bytes) -> int:
    """Checks magic, version and flags; returns the flags."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise NotACgenFileError(
            "not a .cgen file: " + (f"it starts with {data[:4]!r}" if data else "it is empty")
        )
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise UnsupportedVersionError(
            f"format version {data[len(MAGIC)]}, this program reads version {VERSION}; "
            "a newer compressai-gen may read it"
        )
    flags: int = read_fields(data, 0)["flags"]
    if flags & ~KNOWN_FLAGS:
        _check_crc(data)  # a flipped bit is damage, not a newer format
        raise UnsupportedVersionError(
            f"unknown flags 0x{flags & ~KNOWN_FLAGS:02x}; a newer compressai-gen may read the file"
        )
    return flags


def _read_chunks(data: bytes, position: int) -> list[bytes]:
    """Chunks from ``position`` to the end of the data."""
    chunks: list[bytes] = []
    more = True
    while more:
        start = position + _LENGTH
        word = int.from_bytes(data[position:start], "big")
        more, length = bool(word & _MORE), word & ~_MORE
        if len(data) < start + length or len(data) < start:
            raise TruncatedFileError(
                f"the file ends inside chunk {len(chunks) + 1} at byte {len(data)}, "
                f"{start + length} needed: it was cut, or a length is damaged"
            )
        chunks.append(data[start : start + length])
        position = start + length
    if position != len(data):
        raise CorruptedFileError(
            f"{len(data) - position} bytes after the last chunk: bytes were added, or a length "
            "is damaged"
        )
    return chunks


def _check_crc(data: bytes) -> None:
    """Compares the stored checksum with the data."""
    stored = read_fields(data, 0)["payload_crc"] if len(data) >= FIXED_SIZE else None
    if stored != payload_crc(data):
        raise CorruptedFileError("the payload's checksum does not match: the file is damaged")
