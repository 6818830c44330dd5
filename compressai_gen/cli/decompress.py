"""Decompress .cgen files to pictures.

cgen decompress photo.cgen              writes photo.png beside it (--force over one that is there)
cgen decompress photo.cgen out.webp     the format follows the name; - is standard input or output
cgen decompress small/ -o pictures/     several files and folders into a folder
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.bitstream.files import STDIO
from compressai_gen.cli.batch import (
    CODED,
    PICTURES,
    add_common_arguments,
    check_max_pixels,
    plan,
    run_jobs,
)
from compressai_gen.cli.codec_options import add_codec_options, codec_options
from compressai_gen.errors import OptionError

if TYPE_CHECKING:
    from compressai_gen.bitstream import Header
    from compressai_gen.codec import Codec

FORMATS = ("png", "jpg", "webp", "tiff", "bmp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="files, folders, globs or -")
    add_common_arguments(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="where no name says it; default png"
    )
    parser.add_argument("--force", action="store_true", help="replace pictures that are in the way")
    add_codec_options(parser, "decompress")


def run(args: argparse.Namespace) -> int:
    check_max_pixels(args.max_pixels)
    jobs = plan(
        args.inputs,
        args.output,
        extensions=(CODED,),
        extension=f".{args.format}",
        is_output=lambda name: name == STDIO or not name.lower().endswith(CODED),
    )
    for job in jobs:
        if job.target != STDIO and Path(job.target).suffix.lower() not in PICTURES:
            raise OptionError(f"{job.target}: give a name ending in {', '.join(PICTURES)}")
    convert = partial(_convert, _Codecs(args), args)
    return run_jobs(jobs, convert, as_json=args.json, replace_derived=args.force)


class _Codecs:
    """Codecs by what the header of their files says of them, each loaded once."""

    def __init__(self, args: argparse.Namespace) -> None:
        names = ("checkpoint", "device", "dtype", "max_pixels")
        self.arguments = {name: getattr(args, name) for name in names}
        self.opened: dict[tuple[bytes, bytes], Codec] = {}

    def codec_for(self, data: bytes, header: Header) -> Codec:
        from compressai_gen.codec import codec_for

        origin = header.fingerprint, header.synthesis
        if origin not in self.opened:
            self.opened[origin] = codec_for(data, **self.arguments)
        return self.opened[origin]


def _convert(
    codecs: _Codecs, args: argparse.Namespace, data: bytes, target: str
) -> tuple[bytes, dict[str, Any]]:
    from compressai_gen.bitstream import unpack
    from compressai_gen.images import write_image

    header, _ = unpack(data, args.max_pixels)
    codec = codecs.codec_for(data, header)
    options = codec_options(args, getattr(codec, "name", ""), "decompress")
    start = time.perf_counter()  # loading the codec, once for all files, is not counted
    image = codec.decompress(data, output_type="pil", max_pixels=args.max_pixels, **options)
    seconds = round(time.perf_counter() - start, 3)
    extension = f".{args.format}" if target == STDIO else Path(target).suffix
    told = {"width": image.width, "height": image.height, "bytes": len(data), "seconds": seconds}
    told |= {"bpp": 8 * len(data) / header.pixels, "quality": header.quality}
    enhancer = getattr(codec, "enhanced", None)
    return write_image(image, extension), {**told, "enhancer": enhancer}
