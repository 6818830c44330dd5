"""What a published pipeline needs beside its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_MODULE = '''"""Lets `DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo)` find the class.

It needs the package: pip install compressai-gen
"""

from {module} import {name}

__all__ = ["{name}"]
'''


def write_custom_pipeline(folder: str | os.PathLike[Any], pipeline_class: type) -> Path:
    """Write ``pipeline.py`` for ``custom_pipeline=``, which works before our package is imported.

    Args:
        folder: of the saved pipeline; created if need be.
        pipeline_class: its class, importable by the name of its package.

    Returns:
        Path of the file.
    """
    path = Path(folder) / "pipeline.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _MODULE.format(module=pipeline_class.__module__, name=pipeline_class.__name__)
    path.write_text(text, encoding="utf-8")
    return path
