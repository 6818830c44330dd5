"""What is measured on: which pictures, in which geometry, by which versions.

Two results may be compared only if their protocols agree, so all of this is stored in the result.
"""

from __future__ import annotations

import hashlib
import platform
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import ImageError, OptionError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"))
PACKAGES = ("compressai-gen", "compressai", "torch", "numpy", "pillow", "pytorch-msssim", "lpips")

_OPTION_ADVISED = re.compile(r"[:;,] [^:;,]*--.*")
"""The end of a message for `cgen compress`, whose options no one who reads pictures here has."""


def full(image: Image) -> Image:
    """The picture as it is."""
    return image


def short768crop768(image: Image) -> Image:
    """Shorter side to 768 by Pillow's bicubic, then the central 768x768: the diffusion papers'."""
    from PIL import Image as pil

    side, short = 768, min(image.size)
    width, height = (max(side, round(length * side / short)) for length in image.size)
    resized = image.resize((width, height), pil.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return resized.crop((left, top, left + side, top + side))


GEOMETRIES: Mapping[str, Callable[[Image], Image]] = {
    "full": full,
    "short768crop768": short768crop768,
}


@dataclass(frozen=True)
class Dataset:
    """The pictures of one evaluation.

    Attributes:
        folder: where they lie.
        names: POSIX paths relative to `folder`, sorted.
        geometry: a key of `GEOMETRIES`, applied to each after loading.
        sha256: over names and file contents, so that a renamed, added or edited file shows.
    """

    folder: Path
    names: tuple[str, ...]
    geometry: str
    sha256: str

    @classmethod
    def collect(cls, folder: Path, geometry: str = "full", limit: int | None = None) -> Dataset:
        """The pictures in `folder` and below, the first `limit` of them in order of name.

        Raises:
            OptionError: unknown geometry, a limit below 1, not a folder, no pictures in it.
        """
        if geometry not in GEOMETRIES:
            raise OptionError(f"geometry {geometry!r}; allowed: {', '.join(GEOMETRIES)}")
        if limit is not None and limit < 1:
            raise OptionError(f"limit {limit}; it must be at least 1")
        if not folder.is_dir():
            raise OptionError(f"{folder} is not a folder; give a folder of pictures")
        found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        names = sorted(p.relative_to(folder).as_posix() for p in found)[:limit]
        if not names:
            known = " ".join(sorted(SUFFIXES))
            raise OptionError(f"no pictures in {folder}; known suffixes: {known}")
        return cls(folder, tuple(names), geometry, _sha256(folder, names))

    def load(self, name: str) -> Image:
        """One picture in the wanted geometry, 8-bit RGB.

        Raises:
            ImageError: unreadable, or not convertible to 8-bit RGB without losing something.
        """
        return GEOMETRIES[self.geometry](load_rgb(self.folder / name))

    def describe(self) -> dict[str, Any]:
        """For the result file."""
        return {"name": self.folder.resolve().name, "n": len(self.names), "sha256": self.sha256}


def load_rgb(path: Path) -> Image:
    """Read a picture as 8-bit RGB; what has to be changed for that is an `ImageNote` warning.

    Raises:
        ImageError: not a picture, or not convertible without losing something.
    """
    from compressai_gen.bitstream.files import read_file
    from compressai_gen.images import read_image
    from compressai_gen.notes import ImageNote

    try:
        image, notes = read_image(read_file(path))
    except ImageError as error:
        reason = _OPTION_ADVISED.sub("; convert it first", str(error))
        raise ImageError(f"{path}: {reason}") from error
    for note in notes:
        warnings.warn(f"{path}: {note}", ImageNote, stacklevel=2)
    return image


def versions() -> dict[str, str]:
    """Versions of everything a figure can depend on; packages that are absent are left out."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _sha256(folder: Path, names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()
