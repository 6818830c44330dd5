"""Tell what a .cgen file holds, without decoding it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from compressai_gen.bitstream import MAX_PIXELS, describe, read_file, unpack
from compressai_gen.errors import UnknownCheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .cgen file, or - for standard input")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, metavar="N")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    told = inspect(read_file(args.file), args.max_pixels)
    if args.json:
        print(json.dumps(told, indent=2))
        return 0
    width = max(map(len, told))
    for name, value in told.items():
        print(f"{name.replace('_', ' '):<{width}}  {_text(name, value)}")
    return 0


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """What a file says about itself and what this machine knows of its checkpoint.

    Returns:
        JSON-able values: ``codec`` and ``checkpoint`` (None if unknown here), ``bytes``,
        ``pixels``, ``bits_per_pixel``, ``chunks`` (their lengths), then the header's fields.

    Raises:
        BitstreamError: whatever is wrong with the file.
    """
    header, chunks = unpack(data, max_pixels)
    codec, checkpoint = _origin(header.fingerprint)
    return {
        "codec": codec,
        "checkpoint": checkpoint,
        "bytes": len(data),
        "pixels": header.pixels,
        "bits_per_pixel": 8 * len(data) / header.pixels,
        "chunks": [len(chunk) for chunk in chunks],
        **describe(header),
    }


def _origin(fingerprint: bytes) -> tuple[str | None, str | None]:
    """Codec and checkpoint folder of a fingerprint, None where unknown; needs no torch."""
    from compressai_gen.bitstream.header import codec_fingerprint
    from compressai_gen.checkpoints import find_fingerprint, read_config
    from compressai_gen.plugins import registry

    for name in registry("codecs"):
        if codec_fingerprint(name) == fingerprint:
            return name, None
    try:
        folder = find_fingerprint(fingerprint)
    except UnknownCheckpointError:
        return None, None
    return read_config(folder).architecture, str(folder)


def _text(name: str, value: Any) -> str:
    if value is None:
        return "not known on this machine"
    if name == "chunks":
        return f"{len(value)} ({', '.join(f'{length:,}' for length in value)} bytes)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if name in ("bytes", "pixels"):
        return f"{value:,}"
    return f"0x{value:08x}" if name.endswith("_crc") else str(value)
