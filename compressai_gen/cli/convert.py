"""Turn a checkpoint of another project into a folder that every command here reads.

A converter is registered by a plugin: a callable ``(source, out, **options) -> Path`` with a method
``add_arguments(parser)``, whose flags store exactly those options. Its module is imported when it
is chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressai_gen.cli.parser import Parser
from compressai_gen.plugins import registry


class ConverterParser(Parser):
    """Parser of one converter's arguments; the converter adds its own when it is chosen."""

    def __init__(self, *args: Any, converter: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.converter = converter
        self.add_argument("source", help="the file or folder to convert")
        self.add_argument("--out", required=True, metavar="DIR", help="the folder to write")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        registry("converters").load(self.converter).add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    converters = registry("converters")
    choices = parser.add_subparsers(
        dest="converter", required=True, metavar="CONVERTER", parser_class=ConverterParser
    )
    for name in converters:
        help_line = converters.entry(name).details.get("help") or None
        choices.add_parser(name, help=help_line, description=help_line, converter=name)


def run(args: argparse.Namespace) -> int:
    options = vars(args).copy()
    convert = registry("converters").load(options.pop("converter"))
    folder = Path(convert(options.pop("source"), options.pop("out"), **options))
    _report(folder)
    return 0


def _report(folder: Path) -> None:
    """What was written and how to use it; a pipeline's folder has no config of its own."""
    from compressai_gen.checkpoints import read_config
    from compressai_gen.checkpoints.layout import CONFIG_NAME

    if not (folder / CONFIG_NAME).exists():
        print(f"{folder}: written")
        return
    config = read_config(folder)
    arguments = ", ".join(f"{name}={value}" for name, value in config.arguments.items())
    entropy = "fixed point, portable" if config.portable else "floating point, not portable"
    print(f"{folder}: {config.architecture} ({arguments}), trained for {config.metric}")
    print(f"entropy path: {entropy}; fingerprint {config.fingerprint}")
    print(f"try it: cgen compress photo.png --checkpoint {folder}")
