"""Where the tests find real photographs, when there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "COMPRESSAI_GEN_TEST_DATA"


def shared_data() -> Path | None:
    """``COMPRESSAI_GEN_TEST_DATA``, or ``../shared/data`` beside the checkout; None without one."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get(VARIABLE) or beside)
    return folder if folder.is_dir() else None


def needs(*parts: str) -> pytest.MarkDecorator:
    """Skips a test, saying so, unless ``shared_data() / parts`` exists."""
    folder = shared_data()
    missing = folder is None or not folder.joinpath(*parts).exists()
    return pytest.mark.skipif(missing, reason=f"no {'/'.join(parts)} in the test data ({VARIABLE})")
