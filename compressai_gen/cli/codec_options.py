"""Options that plugins' codecs and enhancers bring to ``compress`` and ``decompress``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from compressai_gen.options import Option, add_options, given_options
from compressai_gen.plugins import registry


def add_codec_options(parser: argparse.ArgumentParser, verb: str) -> None:
    """Adds the options of every registered codec and enhancer that ``verb`` takes."""
    owners: dict[str, tuple[Option, ...]] = {}
    for kind in ("codecs", "enhancers"):
        entries = registry(kind)
        owners |= {name: entries.entry(name).details["options"] for name in entries}
    add_options(parser, verb, owners)


def codec_options(args: argparse.Namespace, codec: str, verb: str) -> Mapping[str, Any]:
    """The options given on the command line, as keyword arguments for ``codec``.

    Raises:
        OptionError: an option that the file codec does not have, or a bad value.
    """
    from compressai_gen.codec import checked_options

    return checked_options(codec, given_options(args), verb)
