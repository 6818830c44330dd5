"""Random crops of a folder of photographs, decoded once and kept in memory."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from compressai_gen.bitstream import read_file
from compressai_gen.errors import ImageError
from compressai_gen.images import FORMATS, read_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
MEMORY_LIMIT = 6 * 2**30
"""Bytes of decoded pictures that are kept; the others are read again each time."""
TAKE_AWAY = "repair it or take it away, and start again: the training goes on"


class PhotoCrops(Dataset[Tensor]):
    """An endless supply of square crops; item ``i`` is a function of ``(seed, i)`` alone.

    A picture is drawn uniformly, shrunk by a random factor of at most 2 (less grain and fewer
    compression artefacts of the source, more structure a crop), cropped and flipped at random. It
    is read as `cgen compress` reads it: upright, in sRGB, 16 bits rounded to 8; transparent pixels
    are put on white.

    Args:
        folder: searched recursively for photographs.
        crop: side of a crop, pixels; smaller pictures are left out.
        seed: of the random draws.
        length: number of items.

    Raises:
        ImageError: if no picture in ``folder`` is large enough, or one cannot be read: here if its
            header says so, else when it is first drawn.
    """

    def __init__(self, folder: str | Path, crop: int, seed: int = 0, length: int = 2**31) -> None:
        self.crop, self.seed, self.length = crop, seed, length
        self.files = [f for f in find_images(folder) if min(image_size(f)) >= crop]
        if not self.files:
            raise ImageError(
                f"{folder}: no picture of at least {crop}x{crop} pixels below it; give a folder of "
                "photographs with --data, or a smaller --crop"
            )
        self._memory: dict[Path, np.ndarray] = {}
        self._memory_used = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """One crop, shape (3, crop, crop), float32 in [0, 1]."""
        rng = random.Random(self.seed * 1_000_003 + index)
        pixels = self._pixels(rng.choice(self.files))
        height, width = pixels.shape[:2]
        side = int(self.crop * rng.uniform(1, min(2.0, min(height, width) / self.crop)))
        top, left = rng.randint(0, height - side), rng.randint(0, width - side)
        patch = pixels[top : top + side, left : left + side]
        if side != self.crop:
            box = Image.fromarray(patch).resize((self.crop, self.crop), Image.Resampling.BICUBIC)
            patch = np.asarray(box)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        crop = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))
        return crop.float().div_(255)

    def _pixels(self, file: Path) -> np.ndarray:
        if file in self._memory:
            return self._memory[file]
        pixels = np.asarray(read_photo(file))
        if self._memory_used + pixels.nbytes <= MEMORY_LIMIT:
            self._memory[file] = pixels
            self._memory_used += pixels.nbytes
        return pixels


def find_images(folder: str | Path) -> list[Path]:
    """All files below ``folder`` whose name ends like a photograph's, sorted."""
    return sorted(
        f for f in Path(folder).rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()
    )


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture file, without decoding it.

    Raises:
        ImageError: if it is none; the message names it.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.size
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        told = f"not a picture of {', '.join(FORMATS)}, or a damaged one"
        raise ImageError(f"{file}: {told}; {TAKE_AWAY}") from error


def read_photo(file: Path) -> Image.Image:
    """A photograph as 8-bit RGB, however large.

    Raises:
        ImageError: if it is damaged, or cannot be converted; the message names it.
    """
    try:
        return read_image(read_file(file), background="white", max_pixels=sys.maxsize).image
    except ImageError as error:
        raise ImageError(f"{file}: {error}; {TAKE_AWAY}") from error
