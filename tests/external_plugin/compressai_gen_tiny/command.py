"""Print how many bytes files have."""

from pathlib import Path

from compressai_gen import CodecError


def add_arguments(parser):
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def run(args):
    for file in args.files:
        if not file.is_file():
            raise CodecError(f"{file} is not a file")  # one line and exit status 1
        print(f"{file.stat().st_size:>12} {file}")
