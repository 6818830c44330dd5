"""Pictures in the forms that diffusers' pipelines take and return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor

from compressai_gen.errors import ImageError, OptionError

Pictures: TypeAlias = Image.Image | np.ndarray | Tensor | Sequence[Any]
OUTPUT_TYPES = ("pil", "np", "pt")


def check_output_type(output_type: str) -> None:
    """Refuse an output type that no pipeline of ours has.

    Raises:
        OptionError: neither "pil", "np" nor "pt".
    """
    if output_type not in OUTPUT_TYPES:
        raise OptionError(f"output_type {output_type!r}: give one of {', '.join(OUTPUT_TYPES)}")


def bits_per_pixel(files: Sequence[bytes], decoded: Sequence[Tensor]) -> list[float]:
    """8 * size of each file / pixels of its picture, shape (3, H, W)."""
    return [
        8 * len(data) / (x.shape[-2] * x.shape[-1]) for data, x in zip(files, decoded, strict=True)
    ]


def pictures(image: Pictures) -> list[Any]:
    """Single pictures, in the forms that a codec takes.

    Args:
        image: a PIL image, an array (H, W, 3) or (B, H, W, 3) of uint8 or of floats in [0, 1], a
            tensor (3, H, W) or (B, 3, H, W), or a list of any of them.

    Raises:
        ImageError: for anything else.
    """
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, np.ndarray):
        batch = image[None] if image.ndim == 3 else image
        if batch.dtype == np.uint8:
            return list(batch)
        return pictures(torch.from_numpy(np.ascontiguousarray(batch)).movedim(-1, 1))
    if isinstance(image, Tensor):
        return list(image[None] if image.dim() == 3 else image)
    if isinstance(image, (list, tuple)) and image:
        return [picture for item in image for picture in pictures(item)]
    raise ImageError(
        f"a picture is a PIL image, an array, a tensor or a list of them, not {image!r:.60}"
    )


def as_output(decoded: list[Tensor], output_type: str) -> Any:
    """Tensors (3, H, W) in [0, 1] as a pipeline returns them.

    Args:
        decoded: one a picture.
        output_type: "pil" for a list of images, "np" for float arrays (H, W, 3) or "pt" for
            tensors, stacked where all have one size.
    """
    if output_type == "pil":
        arrays = [VaeImageProcessor.pt_to_numpy(x[None]) for x in decoded]
        return [VaeImageProcessor.numpy_to_pil(array)[0] for array in arrays]
    together = len({x.shape for x in decoded}) == 1
    if output_type == "pt":
        return torch.stack(decoded) if together else decoded
    images = [VaeImageProcessor.pt_to_numpy(x[None])[0] for x in decoded]
    return np.stack(images) if together else images
