"""Compress pictures to .cgen files.

cgen compress photo.png                 writes photo.cgen beside it, over one that is there
cgen compress photo.png out.cgen        to a file of that name; - is standard input or output
cgen compress *.jpg holiday/ -o small/  several files and folders into a folder
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
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
    from PIL.Image import Image

    from compressai_gen.codec import Codec
    from compressai_gen.codec.rate_control import Reached


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="files, folders, globs or -")
    add_common_arguments(parser)
    parser.add_argument("--codec", metavar="NAME", help="default cheng2020-anchor-vbr; `cgen zoo`")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--quality",
        type=float,
        metavar="Q",
        help="rate point: any number from 0 to 9 for our variable-rate codecs, default 4",
    )
    rate.add_argument("--bpp", type=float, help="best picture in so many bits per pixel")
    rate.add_argument("--psnr", type=float, help="smallest file with so many dB")
    parser.add_argument(
        "--background", metavar="COLOUR", help="what transparent pixels are put on, e.g. white"
    )
    add_codec_options(parser, "compress")


def run(args: argparse.Namespace) -> int:
    check_max_pixels(args.max_pixels)
    jobs = plan(
        args.inputs,
        args.output,
        extensions=PICTURES,
        extension=CODED,
        is_output=lambda name: name == STDIO or name.lower().endswith(CODED),
    )
    from compressai_gen.codec import DEFAULT_CODEC, open_codec

    codec = open_codec(
        args.codec,
        checkpoint=args.checkpoint,
        quality=args.quality,
        device=args.device,
        dtype=args.dtype,
    )
    name = getattr(codec, "name", args.codec or DEFAULT_CODEC)
    options = codec_options(args, name, "compress")
    convert = partial(_convert, codec, args, options)
    return run_jobs(jobs, convert, as_json=args.json, replace_derived=True)


def _convert(
    codec: Codec, args: argparse.Namespace, options: Mapping[str, Any], data: bytes, _target: str
) -> tuple[bytes, dict[str, Any]]:
    from compressai_gen.bitstream import unpack
    from compressai_gen.images import read_image

    image, notes = read_image(data, background=args.background, max_pixels=args.max_pixels)
    told: dict[str, Any] = {"width": image.width, "height": image.height}
    if args.bpp is None and args.psnr is None:
        coded = codec.compress(image, quality=args.quality, **options)
    else:
        reached = _reach(codec, image, args, options)
        coded, told["psnr"] = reached.data, reached.psnr
        notes = [*notes, *([reached.note] if reached.note else [])]
    told |= {"bytes": len(coded), "bpp": 8 * len(coded) / (image.width * image.height)}
    header, _ = unpack(coded, max_pixels=image.width * image.height)
    told |= {"quality": header.quality, "enhancer": getattr(codec, "enhanced", None)}
    return coded, {**told, "notes": notes}


def _reach(
    codec: Codec, image: Image, args: argparse.Namespace, options: Mapping[str, Any]
) -> Reached:
    import numpy as np

    from compressai_gen.codec.rate_control import reach_bpp, reach_psnr

    quality_range = getattr(codec, "quality_range", None)
    if quality_range is None:
        raise OptionError("--bpp and --psnr need a variable-rate codec; this one has a fixed rate")
    encoder = getattr(codec, "encoder", None)
    if encoder is None:
        compress = partial(_at_quality, codec, image, options)
    else:
        compress = encoder(image, **options)  # analyses the picture once for all rates
    if args.bpp is not None:
        pixels = image.width * image.height
        if hasattr(codec, "qualities_near"):  # it knows the rate without coding
            quality_range = codec.qualities_near(args.bpp, pixels)
        return reach_bpp(compress, quality_range, pixels, args.bpp)
    decompress = partial(codec.decompress, output_type="np")
    return reach_psnr(compress, decompress, quality_range, np.asarray(image), args.psnr)


def _at_quality(codec: Codec, image: Image, options: Mapping[str, Any], quality: float) -> bytes:
    return codec.compress(image, quality=quality, **options)
