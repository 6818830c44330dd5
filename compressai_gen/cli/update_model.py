"""``cgen update-model``: ``python -m compressai.utils.update_model`` that knows our models too."""

from __future__ import annotations

import sys

from compressai_gen.errors import CheckpointError


def main(argv: list[str]) -> None:
    """Same arguments and output; importing this package has filled the zoo.

    Raises:
        CheckpointError: no such file, or its tensors do not fit the architecture.
    """
    from compressai.utils.update_model.__main__ import main as update_model

    sys.argv = ["cgen update-model", *argv]  # its usage message takes the program's name from here
    try:
        update_model(argv)
    except RuntimeError as error:
        raise CheckpointError(str(error)) from error
