"""Pictures: files <-> 8-bit sRGB <-> tensors, without ever losing something silently."""

from __future__ import annotations

import io
import warnings
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compressai_gen.bitstream import MAX_PIXELS
from compressai_gen.errors import ImageError, OptionError
from compressai_gen.images.colours import Loaded, to_rgb
from compressai_gen.notes import ImageNote

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # those whose bit depth Pillow tells
WRITERS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".webp": {"format": "WEBP", "lossless": True},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".tiff": {"format": "TIFF", "compression": "tiff_deflate"},
    ".bmp": {"format": "BMP"},
}
MAX_SIDE = 65535  # what the header of a file holds

Picture: TypeAlias = Image.Image | np.ndarray | Tensor
"""PIL image, uint8 array (H, W, 3), or float tensor (3, H, W) or (1, 3, H, W) in [0, 1]."""


def read_image(
    data: bytes, *, background: str | None = None, max_pixels: int = MAX_PIXELS
) -> Loaded:
    """Decodes the bytes of a picture file.

    Args:
        data: PNG, JPEG, WebP, TIFF or BMP.
        background: colour that transparent pixels are put on, a name or ``#rrggbb``.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        ImageError: not a picture, damaged, too large, animated, or not convertible to 8-bit sRGB
            without losing something.
    """
    if not data:
        raise ImageError("the file is empty")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = _open(data)
        _check_size(image.width, image.height, max_pixels)
        rgb, notes = to_rgb(image, background=background)
    told = [str(w.message) for w in caught if w.category is UserWarning]  # Pillow's of the file
    return Loaded(rgb, told + notes)


def to_tensor(picture: Picture) -> Tensor:
    """A picture as a float32 tensor, shape (1, 3, H, W), values in [0, 1].

    A PIL image that is not 8-bit sRGB is converted first, with an `ImageNote` for each change.

    Raises:
        ImageError: a wrong shape, type or range, or a PIL image `to_rgb` refuses.
    """
    if isinstance(picture, Image.Image):
        image, notes = to_rgb(picture)
        for note in notes:
            warnings.warn(note, ImageNote, stacklevel=3)
        picture = np.asarray(image)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageError(
                f"an array picture is uint8 of shape (H, W, 3), not {picture.dtype} of shape "
                f"{picture.shape}"
            )
        pixels = torch.from_numpy(np.array(picture, order="C"))
        return pixels.permute(2, 0, 1).unsqueeze(0).to(torch.float32).div_(255)
    return _check_tensor(picture)


def from_tensor(x: Tensor, output_type: str = "pil") -> Any:
    """A float tensor of shape (1, 3, H, W), clamped to [0, 1], as a picture.

    Args:
        x: the picture.
        output_type: ``"pil"`` or ``"np"`` (uint8, (H, W, 3)), both rounded to 8 bits, or ``"pt"``
            (float32, (3, H, W), not rounded).

    Raises:
        OptionError: for another output type.
    """
    if output_type not in ("pil", "np", "pt"):
        raise OptionError(f"output_type {output_type!r}: give pil, np or pt")
    x = x[0].float().clamp(0, 1)
    if output_type == "pt":
        return x
    pixels = x.mul(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(pixels) if output_type == "pil" else pixels


def write_image(image: Image.Image, extension: str) -> bytes:
    """The bytes of a picture file: lossless but for JPEG, which is written at quality 95, 4:4:4.

    Raises:
        OptionError: no writer for that extension, or the format holds no picture of that size.
    """
    options = WRITERS.get(extension.lower())
    if options is None:
        raise OptionError(f"cannot write {extension!r} pictures: choose {', '.join(WRITERS)}")
    buffer = io.BytesIO()
    try:
        image.save(buffer, **options)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"cannot write {image.width}x{image.height} pixels as {options['format']} ({error}): "
            "WEBP holds 16383 a side and JPEG 65500; choose another format"
        ) from error
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    """As ``Image.open``, without Pillow's own limit of pixels: `_check_size` decides."""
    Image.init()
    for factory, accepts in (Image.OPEN[name] for name in FORMATS):
        if accepts is None or accepts(data[:16]) is True:
            try:
                return factory(io.BytesIO(data), "")
            except Exception as error:  # as in to_rgb
                raise ImageError(f"the picture's header is damaged ({error})") from error
    raise ImageError(f"not a picture this program reads ({', '.join(FORMATS)})")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{width}x{height} = {width * height} pixels: at most {max_pixels} and {MAX_SIDE} a "
            "side; scale it down, or raise the first limit with --max-pixels"
        )
    if not width or not height:
        raise ImageError(f"the picture is {width}x{height}: it has no pixels")


def _check_tensor(picture: Any) -> Tensor:
    if not isinstance(picture, Tensor):
        raise ImageError(f"a picture is a PIL image, array or tensor, not {type(picture).__name__}")
    x = picture if picture.dim() == 4 else picture.unsqueeze(0)
    if x.dim() != 4 or tuple(x.shape[:2]) != (1, 3) or not x.is_floating_point() or not x.numel():
        raise ImageError(
            "a tensor picture is float of shape (3, H, W) or (1, 3, H, W), not "
            f"{picture.dtype} of shape {tuple(picture.shape)}"
        )
    if not 0 <= float(x.min()) <= float(x.max()) <= 1:
        raise ImageError(
            f"a tensor picture has values in [0, 1], not {float(x.min()):g}..{float(x.max()):g}"
        )
    return x.float()
