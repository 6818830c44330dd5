"""JPEG, WebP, AVIF and JPEG XL through Pillow: the baselines, with real files like every codec."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CodecError, OptionError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ClassicCodec:
    """A `Codec` around one of Pillow's formats.

    Attributes:
        name: as on the command line.
        format: Pillow's name.
        description: for result files.
        settings: arguments of ``Image.save`` besides ``quality``.
        qualities: lowest and highest whole number accepted.
        sweep: the rate points of a baseline, about 0.1 to 1.5 bits per pixel on photographs.
        plugin: module that teaches Pillow the format, where Pillow may lack it.
    """

    name: str
    format: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    qualities: tuple[int, int] = (0, 100)
    sweep: tuple[int, ...] = ()
    plugin: str = ""

    def compress(self, image: Image, *, quality: float | None = None) -> bytes:
        """The complete file.

        Raises:
            OptionError: `quality` is not a whole number in `qualities`.
        """
        self.check_available()
        buffer = io.BytesIO()
        image.save(buffer, self.format, quality=self.check_quality(quality), **self.settings)
        return buffer.getvalue()

    def check_quality(self, quality: float | None) -> int:
        """`quality` as a whole number; raises OptionError unless it is one in `qualities`."""
        low, high = self.qualities
        if quality is None or not float(quality).is_integer() or not low <= quality <= high:
            raise OptionError(
                f"{self.name}: quality {quality}; allowed: whole numbers {low} to {high}"
            )
        return int(quality)

    def decompress(self, data: bytes, *, output_type: str = "pil") -> Image:
        """The picture in 8-bit RGB.

        Raises:
            OptionError: `output_type` is not ``"pil"``.
        """
        self.check_available()
        if output_type != "pil":
            raise OptionError(f"{self.name}: output_type {output_type!r}; allowed: 'pil'")
        from PIL import Image as pil

        with pil.open(io.BytesIO(data), formats=(self.format,)) as image:
            return image.convert("RGB")

    def check_available(self) -> None:
        """Raise a CodecError that names the missing package unless Pillow knows the format."""
        import importlib

        from PIL import Image as pil

        pil.init()
        if self.format in pil.SAVE and self.format in pil.OPEN:
            return
        try:
            importlib.import_module(self.plugin)
        except (ImportError, ValueError) as error:
            raise CodecError(
                f"{self.name}: this Pillow cannot write {self.format}; "
                "pip install '.[baselines]' in compressai-gen's folder"
            ) from error


CLASSIC: Mapping[str, ClassicCodec] = {
    codec.name: codec
    for codec in (
        ClassicCodec(
            "jpeg",
            "JPEG",
            "JPEG 4:2:0 by Pillow, optimised Huffman tables",
            {"subsampling": "4:2:0", "optimize": True},
            qualities=(1, 100),
            sweep=(5, 10, 20, 30, 50, 70, 80, 90),
        ),
        ClassicCodec(
            "webp",
            "WEBP",
            "WebP by Pillow, method 6",
            {"method": 6},
            sweep=(1, 10, 30, 50, 75, 85, 92),
        ),
        ClassicCodec(
            "avif",
            "AVIF",
            "AVIF by Pillow, speed 4",
            {"speed": 4},
            sweep=(15, 30, 40, 50, 60, 75),
            plugin="pillow_avif",
        ),
        ClassicCodec(
            "jxl",
            "JXL",
            "JPEG XL by pillow-jxl-plugin, effort 7",
            {"effort": 7},
            sweep=(5, 20, 40, 60, 70, 85, 92),
            plugin="pillow_jxl",
        ),
    )
}
