"""CodecPipeline: compress pictures with a CompressAI model, in diffusers' manner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.pipelines.pictures import (
    Pictures,
    as_output,
    bits_per_pixel,
    check_output_type,
    pictures,
)
from diffusers_codec.pipelines.publishing import PublishedPipeline


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


class CodecPipeline(PublishedPipeline):
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
        check_output_type(output_type)
        codec = self.codec.codec()
        files, decoded = [], []
        for picture in self.progress_bar(pictures(image)):
            files.append(codec.compress(picture, quality=quality))
            decoded.append(codec.decompress(files[-1], output_type="pt"))
        self.maybe_free_model_hooks()
        rates = bits_per_pixel(files, decoded)
        images = as_output(decoded, output_type)
        if not return_dict:
            return images, rates, files
        return CodecPipelineOutput(images=images, bits_per_pixel=rates, files=files)
