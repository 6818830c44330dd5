"""Any PIL image as 8-bit RGB in sRGB, without ever losing something silently.

Whatever is changed (bit depth, greyscale, an opaque alpha channel, EXIF orientation, a colour
profile) is said in a list of notes; whatever cannot be kept is refused with a line that says what
to do.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps

from compressai_gen.errors import ImageError, OptionError


class Loaded(NamedTuple):
    """An 8-bit RGB picture in sRGB, and what had to be changed to make it one."""

    image: Image.Image
    notes: list[str]


def to_rgb(image: Image.Image, *, background: str | None = None) -> Loaded:
    """Any PIL image as 8-bit RGB in sRGB, upright.

    Pillow itself reduces colours of 16 bits to 8 when it loads them: only an image that was opened
    and not loaded yet still tells that it had more.

    Raises:
        ImageError: damaged, several frames, transparency without a background, or a mode or
            profile that cannot be converted.
    """
    notes: list[str] = []
    _load(image, notes)
    image = _upright(image, notes)
    profile = image.info.get("icc_profile")
    image = _eight_bits(image, notes)
    image, alpha = _split_alpha(image, notes)
    image = _colours(image, profile, notes)
    if alpha is not None:
        image = _composite(image, alpha, background, notes)
    return Loaded(image, notes)


def _load(image: Image.Image, notes: list[str]) -> None:
    """Decodes the pixels of an opened file, after a look at what Pillow would drop in silence."""
    try:
        frames = getattr(image, "n_frames", 1)
        deep = _is_deep(image)
        image.load()
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        raise ImageError(f"the picture is damaged or cut off ({error})") from error
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{frames} frames or pages: extract the one you want first")
    if frames > 1:  # a camera's JPEG with a preview or a second view
        notes.append(f"the first of {frames} pictures in the file is used")
    if deep:
        notes.append("more than 8 bits a channel reduced to 8")


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow is about to reduce the channels to 8 bits without a word."""
    tiles = getattr(image, "tile", ())
    raw_modes = [t[3] if isinstance(t[3], str) else (t[3] or ("",))[0] for t in tiles]
    deep = any(re.search(r";1[026]", str(raw)) for raw in raw_modes)
    return deep and image.format != "BMP" and not image.mode.startswith("I")


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(image)
        orientation = image.getexif().get(0x0112, 1)
    except Exception as error:  # damaged EXIF data: the picture itself is fine
        notes.append(f"unreadable EXIF data ignored ({error})")
        return image
    if orientation in range(2, 9):
        notes.append("turned upright as its EXIF orientation says")
    return turned


def _eight_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey levels of more than 8 bits as mode L, rounded."""
    if image.mode == "F":
        raise ImageError("floating-point pixels: convert the picture to 8 or 16 bits first")
    if not image.mode.startswith("I"):
        return image
    if "transparency" in image.info:
        raise ImageError("16-bit grey with a transparent level: convert it to 8 bits first")
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError("32-bit pixels: convert the picture to 8 or 16 bits first")
    notes.append("16 bits a channel rounded to 8")
    return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))


def _split_alpha(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Colour and, unless the picture is opaque, alpha (mode L)."""
    if not image.has_transparency_data:
        return image, None
    grey = image.mode in ("1", "L", "LA", "La")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    colour = rgba.convert("RGB")
    if grey:
        colour = colour.getchannel("R")
    if alpha.getextrema() == (255, 255):
        notes.append("fully opaque alpha channel dropped")
        return colour, None
    return colour, alpha


def _colours(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Palette, grey, CMYK or RGB to RGB in sRGB."""
    if image.mode not in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"):
        raise ImageError(f"colour mode {image.mode}: convert the picture to RGB first")
    if image.mode in ("P", "RGBX", "YCbCr"):
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "L":
        notes.append("greyscale coded as three equal channels")
    if profile:
        return _to_srgb(image, profile, notes)
    if image.mode == "CMYK":
        notes.append("CMYK without a colour profile converted to RGB: colours are approximate")
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower() and image.mode in ("L", "RGB"):
            return image.convert("RGB")
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ImageError(
            f"its colour profile cannot be applied ({error}): convert the picture to sRGB first"
        ) from error
    if converted is None:
        raise ImageError("its colour profile cannot be applied: convert the picture to sRGB first")
    notes.append(f"converted from colour profile {name!r} to sRGB")
    return converted


def _composite(
    image: Image.Image, alpha: Image.Image, background: str | None, notes: list[str]
) -> Image.Image:
    if background is None:
        raise ImageError(
            "the picture has transparent pixels, which this codec cannot keep: choose what to put "
            "them on with --background white (or another colour)"
        )
    try:
        colour = ImageColor.getcolor(background, "RGB")
    except ValueError:
        raise OptionError(
            f"background {background!r} is not a colour: give a name like white or #rrggbb"
        ) from None
    notes.append(f"transparent pixels put on {background}")
    return Image.composite(image, Image.new("RGB", image.size, colour), alpha)
