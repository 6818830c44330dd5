"""The ``.cgen`` container: one header declared as data, length-prefixed chunks, checksums."""

from __future__ import annotations

from compressai_gen.bitstream.container import MAX_PIXELS, pack, unpack
from compressai_gen.bitstream.files import read_file, write_file
from compressai_gen.bitstream.header import FIELDS, Field, Header, codec_fingerprint, describe

__all__ = [
    "FIELDS",
    "MAX_PIXELS",
    "Field",
    "Header",
    "codec_fingerprint",
    "describe",
    "pack",
    "read_file",
    "unpack",
    "write_file",
]
