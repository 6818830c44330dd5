"""The loss paper's Fig. 3: a detail of one picture as every codec draws it, from kept files."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressai_gen.evaluation.codecs import RatePoint, open_spec
from compressai_gen.metrics.direction import rescaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from compressai_gen.evaluation.run import Plan
    from compressai_gen.evaluation.schema import Report

    Panel = tuple[np.ndarray, str]
    """Pixels, uint8 (H, W, 3), and the text under them."""

Key = tuple[str, str]
"""Codec and loss; a baseline has no loss."""

SIDE = 128
"""Of a detail, in the middle of the picture."""
PANEL = 384
"""What its longer side is enlarged to, at least."""
COLUMNS = 4
GAP, CAPTION = 12, 72
"""Pixels between panels, and under them."""
DPI = 128
FIGURES = {
    "psnr-rgb": "PSNR {:.2f} dB",
    "ms-ssim-rgb": "MS-SSIM {:.2f} dB",
    "lpips-squeeze": "LPIPS {:.3f}",
}


@dataclass(frozen=True)
class Kept:
    """A file of the picture, and what was measured of it.

    Attributes:
        point: what it was made with.
        path: where it lies.
        values: bits per pixel and metrics, of the whole picture.
    """

    point: RatePoint
    path: Path
    values: Mapping[str, float]


def draw(plans: Mapping[Key, Plan], curves: Mapping[Key, Report], picture: str) -> bytes | None:
    """A PNG: the original, every codec with its first loss and every baseline, each at the rate
    nearest to a common one; below, the other losses, a row a codec.

    Args:
        plans: what was measured.
        curves: the results.
        picture: its name in the data set.

    Returns:
        None if no curve has its files. Which ones lack them is told on standard error.

    Raises:
        CodecError: a file is damaged.
    """
    from compressai_gen.evaluation.plot import encoded

    files = {key: kept(plans[key], curves[key], picture) for key in curves}
    absent = [plans[key].output.stem for key, found in files.items() if not found]
    if absent:
        print(
            f"cgen: details.png is without {', '.join(absent)}: their files were not kept; remove "
            "their result files to measure them anew",
            file=sys.stderr,
        )
    files = {key: found for key, found in files.items() if found}
    if not files:
        return None
    rate = common_rate([[file.values["bpp"] for file in found] for found in files.values()])
    chosen = {key: nearest(found, rate) for key, found in files.items()}
    rows = [[panel(key, chosen[key]) for key in row] for row in rows_of([*chosen])]
    original = next(iter(plans.values())).dataset.load(picture)
    told = f"original\n{picture}\n{original.width}x{original.height}"
    rows[0].insert(0, (detail(original), told))
    return encoded(sheet(wrapped(rows)), dpi=DPI)


def kept(plan: Plan, report: Report, picture: str) -> list[Kept]:
    """The files of a picture at every rate point of a curve; none if one is not there, or is not
    as large as the one that was measured.
    """
    (points,) = plan.sweeps.values()
    values = {row["quality"]: row["values"] for row in report.per_image if row["source"] == picture}
    pixels = math.prod(plan.dataset.load(picture).size)
    found = []
    for point in points:
        path = (plan.files or Path()) / point.file_name(picture)
        measured = values.get(point.quality)
        if not measured or not path.is_file() or _rate(path, pixels) != measured["bpp"]:
            return []
        found.append(Kept(point, path, measured))
    return found


def _rate(path: Path, pixels: int) -> float:
    return 8 * path.stat().st_size / pixels


def common_rate(curves: Sequence[Sequence[float]]) -> float:
    """That of the point which every curve has one near to: the worst ratio of two rates is least.

    Args:
        curves: rates of each, above 0.
    """

    def farthest(rate: float) -> float:
        return max(min(abs(math.log(own / rate)) for own in rates) for rates in curves)

    return min(chain(*curves), key=farthest)


def nearest(files: Sequence[Kept], rate: float) -> Kept:
    """The file whose rate is nearest, as a ratio."""
    return min(files, key=lambda file: abs(math.log(file.values["bpp"] / rate)))


def rows_of(keys: Sequence[Key]) -> list[list[Key]]:
    """Every codec with its first loss and every baseline; then the other losses, a row a codec."""
    first = dict(reversed(keys))
    others = [
        [(codec, loss) for codec, loss in keys if codec == name and loss != first[name]]
        for name in dict.fromkeys(codec for codec, _ in keys)
    ]
    return [[key for key in keys if first[key[0]] == key[1]], *filter(None, others)]


def wrapped(rows: Sequence[Sequence[Panel]]) -> list[Sequence[Panel]]:
    """The same in rows of at most `COLUMNS`."""
    return [row[at : at + COLUMNS] for row in rows for at in range(0, len(row), COLUMNS)]


def panel(key: Key, file: Kept) -> Panel:
    """The detail that a file decodes to, with its rate and its metrics."""
    codec: Any = open_spec(file.point.codec)
    drawn = codec.decompress(file.path.read_bytes())
    figures = [
        text.format(*rescaled(metric, [file.values[metric]]))
        for metric, text in FIGURES.items()
        if metric in file.values
    ]
    rate = f"{file.values['bpp']:.3f} bpp"
    lines = ", ".join(filter(None, key)), ", ".join([rate, *figures[:1]]), ", ".join(figures[1:])
    return detail(drawn), "\n".join(lines)


def detail(image: Image) -> np.ndarray:
    """The middle of a picture, every pixel enlarged to a square; uint8 (H, W, 3)."""
    pixels = np.asarray(image.convert("RGB"))
    top, left = (max(0, length - SIDE) // 2 for length in pixels.shape[:2])
    middle = pixels[top : top + SIDE, left : left + SIDE]
    times = math.ceil(PANEL / max(middle.shape[:2]))
    return middle.repeat(times, axis=0).repeat(times, axis=1)


def sheet(rows: Sequence[Sequence[Panel]]) -> Figure:
    """Panels of one size, pixel by pixel, each with its text under it."""
    from matplotlib.figure import Figure

    tall, wide, _ = rows[0][0][0].shape
    width = GAP + max(map(len, rows)) * (wide + GAP)
    height = GAP + len(rows) * (tall + CAPTION)
    drawing = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for row, panels in enumerate(rows):
        for column, (pixels, text) in enumerate(panels):
            left = GAP + column * (wide + GAP)
            bottom = (len(rows) - row) * (tall + CAPTION) - tall
            drawing.figimage(pixels, left, bottom)
            drawing.text(left / width, (bottom - 4) / height, text, va="top", fontsize=9)
    return drawing
