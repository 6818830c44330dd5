"""CodecPipeline: compress pictures with a CompressAI model, in diffusers' manner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from compressai_gen.errors import ImageError, OptionError
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.pipelines.publishing import write_custom_pipeline

Pictures: TypeAlias = Image.Image | np.ndarray | Tensor | Sequence[Any]
OUTPUT_TYPES = ("pil", "np", "pt")


@dataclass
class CodecPipelineOutput(BaseOutput):
    """What a round trip gives.

    Attributes:
        images: decoded pictures: a list of PIL images, an array (B, H, W, 3) or a tensor
            (B, 3, H, W), both float in [0, 1]; a list of (H, W, 3) or (3, H, W) where the sizes
            differ.
        bits_per_pixel: 8 * size of the file / pixels of the picture, header included.
        files: the content of one ``.cgen`` file per picture.
    """

    images: list[Image.Image] | list[np.ndarray] | list[Tensor] | np.ndarray | Tensor
    bits_per_pixel: list[float]
    files: list[bytes]


class CodecPipeline(DiffusionPipeline):
    """An image codec with the verbs of a file codec and the call of a pipeline.

    .. code-block:: none

        image ─► compress ─► .cgen bytes ─► decompress ─► image
                 g_a, h_a, range coder      range decoder, g_s

    Args:
        codec: a CompressAI model, stock or ours.

    Example:
        >>> pipe = CodecPipeline.from_pretrained("path/to/pipeline")  # doctest: +SKIP
        >>> pipe(photograph, quality=3.5).bits_per_pixel  # doctest: +SKIP
        [0.41]
    """

    codec: CompressionModelComponent
    model_cpu_offload_seq = "codec"  # type: ignore[assignment]  # None in the base class
    # offloaded as a whole or not at all: layer by layer would split the entropy path
    _exclude_from_cpu_offload = ["codec"]  # noqa: RUF012  (an instance variable in the base class)

    def __init__(self, codec: CompressionModelComponent) -> None:
        super().__init__()
        self.register_modules(codec=codec)

    def compress(self, image: Any, *, quality: float | None = None, **options: Any) -> bytes:
        """One picture to the content of a ``.cgen`` file.

        Args:
            image: PIL image, uint8 array (H, W, 3), or float tensor (3, H, W) or (1, 3, H, W) in
                [0, 1]; any size.
            quality: rate point of a variable-rate model; None for its default.
            **options: of the codec's ``compress``.

        Raises:
            ImageError: for a picture that cannot be coded as it is.
            OptionError: if the quality is out of range.
        """
        data = self.codec.codec().compress(image, quality=quality, **options)
        self.maybe_free_model_hooks()
        return data

    def decompress(self, data: bytes, *, output_type: str = "pil", **options: Any) -> Any:
        """The content of a ``.cgen`` file to its picture.

        Args:
            data: written by this codec.
            output_type: "pil", "np" (uint8, (H, W, 3)) or "pt" (float32, (3, H, W), in [0, 1]).
            **options: of the codec's ``decompress``.

        Raises:
            BitstreamError: if the data are damaged, or not a ``.cgen`` file.
            CheckpointError: if another checkpoint wrote them.
        """
        image = self.codec.codec().decompress(data, output_type=output_type, **options)
        self.maybe_free_model_hooks()
        return image

    @torch.no_grad()
    def __call__(
        self,
        image: Pictures,
        quality: float | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> CodecPipelineOutput | tuple[Any, list[float], list[bytes]]:
        """Compress and decompress, through real files.

        Args:
            image: a PIL image, an array (H, W, 3) or (B, H, W, 3) of uint8 or of floats in [0, 1],
                a float tensor (3, H, W) or (B, 3, H, W) in [0, 1], or a list of any of them.
            quality: rate point of a variable-rate model; None for its default.
            output_type: "pil", "np" or "pt".
            return_dict: False for a plain tuple.

        Returns:
            The decoded pictures, the bits per pixel and the files.

        Raises:
            ImageError: for a picture that cannot be coded as it is.
            OptionError: for another output type, or a quality out of range.
        """
        if output_type not in OUTPUT_TYPES:
            raise OptionError(f"output_type {output_type!r}: give one of {', '.join(OUTPUT_TYPES)}")
        codec = self.codec.codec()
        files, decoded = [], []
        for picture in self.progress_bar(_pictures(image)):
            files.append(codec.compress(picture, quality=quality))
            decoded.append(codec.decompress(files[-1], output_type="pt"))
        self.maybe_free_model_hooks()
        rates = [
            8 * len(data) / (x.shape[-2] * x.shape[-1])
            for data, x in zip(files, decoded, strict=True)
        ]
        images = _as_output(decoded, output_type)
        if not return_dict:
            return images, rates, files
        return CodecPipelineOutput(images=images, bits_per_pixel=rates, files=files)

    def save_pretrained(
        self, save_directory: str | os.PathLike[Any], *args: Any, **options: Any
    ) -> None:
        """Save as ``DiffusionPipeline.save_pretrained`` does, with a ``pipeline.py`` beside it."""
        write_custom_pipeline(save_directory, type(self))  # first: saving may upload the folder
        super().save_pretrained(save_directory, *args, **options)


def _pictures(image: Pictures) -> list[Any]:
    """Single pictures, in the forms that a codec takes."""
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, np.ndarray):
        batch = image[None] if image.ndim == 3 else image
        if batch.dtype == np.uint8:
            return list(batch)
        return _pictures(torch.from_numpy(np.ascontiguousarray(batch)).movedim(-1, 1))
    if isinstance(image, Tensor):
        return list(image[None] if image.dim() == 3 else image)
    if isinstance(image, (list, tuple)) and image:
        return [picture for item in image for picture in _pictures(item)]
    raise ImageError(
        f"a picture is a PIL image, an array, a tensor or a list of them, not {image!r:.60}"
    )


def _as_output(decoded: list[Tensor], output_type: str) -> Any:
    """Tensors (3, H, W) in [0, 1] as the pipeline returns them."""
    if output_type == "pil":
        arrays = [VaeImageProcessor.pt_to_numpy(x[None]) for x in decoded]
        return [VaeImageProcessor.numpy_to_pil(array)[0] for array in arrays]
    together = len({x.shape for x in decoded}) == 1
    if output_type == "pt":
        return torch.stack(decoded) if together else decoded
    images = [VaeImageProcessor.pt_to_numpy(x[None])[0] for x in decoded]
    return np.stack(images) if together else images
