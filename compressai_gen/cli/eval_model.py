"""``cgen eval-model``: ``python -m compressai.utils.eval_model`` that knows our models too."""

from __future__ import annotations

import sys


def main(argv: list[str]) -> None:
    """Same arguments, output and exit status; importing this package has filled the zoo."""
    from compressai.utils.eval_model.__main__ import main as eval_model

    sys.argv = ["cgen eval-model", *argv]  # its usage message takes the program's name from here
    eval_model(argv)
