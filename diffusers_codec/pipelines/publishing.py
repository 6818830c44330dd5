"""What a published pipeline needs beside its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compressai.models import CompressionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from compressai_gen.errors import CheckpointError, OptionError

_MODULE = '''"""Lets `DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo)` find the class.

It needs the package: pip install compressai-gen
"""

from {module} import {name} as Pipeline

__all__ = ["Pipeline"]
'''


def write_custom_pipeline(folder: str | os.PathLike[Any], pipeline_class: type) -> Path:
    """Write ``pipeline.py`` for ``custom_pipeline=``, which works before our package is imported.

    The class has one name in all such files: diffusers runs those of local folders in one module,
    and wants to find a single pipeline there.

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


class PublishedPipeline(DiffusionPipeline):
    """A pipeline that saves its ``pipeline.py`` beside its components.

    Raises:
        OptionError: for a CompressAI model as it is instead of its component.
    """

    def register_modules(self, **parts: Any) -> None:
        """Take the components, as diffusers does."""
        codec = parts.get("codec")
        if isinstance(codec, CompressionModel):
            raise OptionError(
                f"codec is a bare {type(codec).__name__}: wrap it with "
                "CompressionModelComponent.from_compressai(model)"
            )
        super().register_modules(**parts)

    def check_present(self) -> None:
        """Whether no part was left out, as ``from_pretrained(folder, unet=None)`` does.

        Raises:
            CheckpointError: names those that are missing.
        """
        missing = [name for name, part in self.components.items() if part is None]
        if missing:
            raise CheckpointError(f"this {type(self).__name__} has no {', '.join(missing)}")

    def save_pretrained(
        self, save_directory: str | os.PathLike[Any], *args: Any, **options: Any
    ) -> None:
        """Save as ``DiffusionPipeline.save_pretrained`` does, with a ``pipeline.py`` beside it."""
        write_custom_pipeline(save_directory, type(self))  # first: saving may upload the folder
        super().save_pretrained(save_directory, *args, **options)
