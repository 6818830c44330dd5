"""The loss paper's Fig. 3: a detail of one picture as every codec draws it, from its files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressai_gen.metrics.direction import rescaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from compressai_gen.evaluation.codecs import RatePoint
    from compressai_gen.evaluation.run import Plan
    from compressai_gen.evaluation.schema import Report

SIDE = 128
"""Of the detail, in the middle of the picture."""
PANEL = 384
"""Its least side on the sheet, each pixel a square."""
GAP, CAPTION, DPI = 12, 66, 100
"""Between panels, for the text under one, both in pixels; of the sheet."""
FIGURES = {
    "psnr-rgb": "PSNR {:.2f} dB",
    "ms-ssim-rgb": "MS-SSIM {:.2f} dB",
    "lpips-squeeze": "LPIPS {:.3f}",
}

Key = tuple[str, str]
"""Codec and loss; a baseline has no loss."""


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

    def decoded(self) -> Image:
        """The whole picture."""
        from compressai_gen.evaluation.codecs import open_spec

        codec: Any = open_spec(self.point.codec)
        return codec.decompress(self.path.read_bytes())


def draw(plans: Mapping[Key, Plan], curves: Mapping[Key, Report], picture: str) -> bytes | None:
    """A PNG: the original, every codec with its first loss and every baseline, each at the rate
    nearest to a common one; below, a row a codec, its other losses.

    Args:
        plans: of the study.
        curves: their results.
        picture: name of one in the study.

    Returns:
        None if no file of the picture was kept. What a result lacks is told on standard error.

    Raises:
        CodecError: a file is damaged.
    """
    from compressai_gen.evaluation.plot import encoded

    files = {key: kept(plans[key], curves[key], picture) for key in curves}
    for codec, loss in (key for key, found in files.items() if not found):
        name = f"{codec} with {loss}" if loss else codec
        print(f"cgen: {name} is not in details.png: its files were not kept", file=sys.stderr)
    files = {key: found for key, found in files.items() if found}
    if not files:
        return None
    rate = common_rate([[file.values["bpp"] for file in found] for found in files.values()])
    chosen = {key: nearest(found, rate) for key, found in files.items()}
    original = next(iter(plans.values())).dataset.load(picture)
    head = f"original\n{picture}, {original.width}x{original.height}"
    rows = [[(detail(file.decoded()), caption(key, file)) for key, file in row] for row in rows_of(chosen)]
    rows[0].insert(0, (detail(original), head))
    return encoded(sheet(rows), dpi=DPI)


def kept(plan: Plan, report: Report, picture: str) -> list[Kept]:
    """The files of a picture at all rate points of a curve, or none if one was not kept."""
    (points,) = plan.sweeps.values()
    values = {row["quality"]: row["values"] for row in report.per_image if row["source"] == picture}
    pixels = math.prod(plan.dataset.load(picture).size)
    found = []
    for point in points:
        path = plan.files / point.file_name(picture)
        if not path.exists() or 8 * path.stat().st_size / pixels != values[point.quality]["bpp"]:
            return []
        found.append(Kept(point, path, values[point.quality]))
    return found


def common_rate(curves: Sequence[Sequence[float]]) -> float:
    """The rate of some point that all curves come nearest to, as a ratio and in the worst case."""

    def farthest(rate: float) -> float:
        return max(min(abs(math.log(own / rate)) for own in rates) for rates in curves)

    return min(chain(*curves), key=farthest)
