"""Tell what a .cgen file holds, without decoding it; or let its codec draw where the bits go."""

from __future__ import annotations

import argparse
import json
from typing import Any

from compressai_gen.bitstream import MAX_PIXELS, Header, describe, read_file, unpack
from compressai_gen.cli.batch import add_max_pixels, check_max_pixels
from compressai_gen.errors import OptionError, UnknownCheckpointError
from compressai_gen.plugins import file_codec, registry

ALONE = "none: the file alone decodes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .cgen file, or - for standard input")
    add_max_pixels(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--picture", metavar="OUT", help="PNG of latents and their bits, where the codec draws one"
    )


def run(args: argparse.Namespace) -> int:
    check_max_pixels(args.max_pixels)
    data = read_file(args.file)
    told = inspect(data, args.max_pixels)
    if args.picture is not None:
        draw(data, args.picture, args.max_pixels)
    if args.json:
        print(json.dumps(told, indent=2))
        return 0
    width = max(map(len, told))
    for name, value in told.items():
        alone = told["codec"] is not None and told["checkpoint"] is None and value in (None, "0000")
        print(f"{name.replace('_', ' '):<{width}}  {ALONE if alone else _text(name, value)}")
    return 0


def draw(data: bytes, out: str, max_pixels: int) -> None:
    """Write the picture that the file's codec draws of it, by a method ``portrait``.

    Raises:
        OptionError: if it draws none.
    """
    from compressai_gen.bitstream import write_file
    from compressai_gen.codec import codec_for

    codec = codec_for(data, max_pixels=max_pixels)
    if not hasattr(codec, "portrait"):
        name = getattr(codec, "name", type(codec).__name__)
        raise OptionError(f"--picture: {name} draws none of its files; cool-chic-v1 and v2 do")
    write_file(out, codec.portrait(data, max_pixels))


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """What a file says about itself and what this machine knows of its checkpoint.

    Returns:
        JSON-able values: ``codec`` (None if unknown here) and ``checkpoint`` (None, too, if the
        codec has none: the file alone decodes), ``bytes``,
        ``pixels``, ``bits_per_pixel``, ``chunks`` (their lengths), then the header's fields.

    Raises:
        BitstreamError: whatever is wrong with the file.
    """
    header, chunks = unpack(data, max_pixels)
    codec, checkpoint = _origin(header)
    return {
        "codec": codec,
        "checkpoint": checkpoint,
        "bytes": len(data),
        "pixels": header.pixels,
        "bits_per_pixel": 8 * len(data) / header.pixels,
        "chunks": [len(chunk) for chunk in chunks],
        **describe(header),
    }


def _origin(header: Header) -> tuple[str | None, str | None]:
    """Codec and checkpoint folder of a file, None where unknown; needs no torch."""
    from compressai_gen.bitstream.header import codec_fingerprint
    from compressai_gen.checkpoints import find_fingerprint, read_config

    for name in registry("codecs"):
        if codec_fingerprint(name) == header.fingerprint:
            return name, None
    try:
        folder = find_fingerprint(header.fingerprint, header.synthesis)
    except UnknownCheckpointError:
        return None, None
    return read_config(folder).architecture, str(folder)


def _text(name: str, value: Any) -> str:
    if value is None:
        return "not known on this machine"
    around = file_codec(value) if name == "codec" else None
    if around not in (None, value):
        return f"{value}, through --codec {around}"
    if name == "chunks":
        return f"{len(value)} ({', '.join(f'{length:,}' for length in value)} bytes)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if name in ("bytes", "pixels"):
        return f"{value:,}"
    return f"0x{value:08x}" if name.endswith("_crc") else str(value)
