"""A first look without any download: one photograph at several rates, beside JPEG at the same size.

The photograph ships inside scikit-image's wheel. Every figure comes from a file in the output
folder: the ``.cgen`` files, what they decode to, and the JPEG files they are compared with. Where
an enhancer turns the codec's files between distortion and perception, one is shown at several tau.
"""

from __future__ import annotations

import io
import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.bitstream.files import read_file, write_file
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.evaluation.classic import CLASSIC

if TYPE_CHECKING:
    from PIL.Image import Image

    from compressai_gen.codec import Codec

JPEG_QUALITIES = range(1, 96)
TAUS = (0.0, 0.5, 1.0)
CROP, ZOOM, CAPTION, GAP = 160, 2, 40, 6  # pixels of the picture, and of the sheet


@dataclass(frozen=True)
class Shown:
    """One rate of the demonstration.

    Attributes:
        quality: given to the codec; None for its default.
        file: the ``.cgen`` file.
        size: of that file, bytes.
        picture: decoded from it.
        psnr: of the picture, dB.
        seconds: of encoding and of decoding.
        jpeg_size: of the largest JPEG that is not larger, or of the smallest JPEG there is.
        jpeg_picture: decoded from that.
        jpeg_psnr: dB.
    """

    quality: float | None
    file: Path
    size: int
    picture: Image
    psnr: float
    seconds: tuple[float, float]
    jpeg_size: int
    jpeg_picture: Image
    jpeg_psnr: float


@dataclass(frozen=True)
class Turned:
    """One position of the dial between distortion and perception, of one file.

    Attributes:
        tau: what the file was decoded with.
        file: the picture.
        picture: likewise.
        psnr: dB.
        lpips: LPIPS-squeeze; None without its weights on this machine.
    """

    tau: float
    file: Path
    picture: Image
    psnr: float
    lpips: float | None


def sample_photo() -> Image:
    """Chelsea the cat by Stéfan van der Walt (CC0), 451x300, from scikit-image's wheel."""
    from PIL import Image as pil
    from skimage import data

    return pil.fromarray(data.chelsea())


def rates_of(codec: Codec, count: int = 4) -> list[float | None]:
    """Evenly spaced qualities from a codec's lowest to its highest, or its one default."""
    limits = getattr(codec, "quality_range", None)
    if limits is None:
        return [None]
    low, high = limits
    return [low + (high - low) * step / (count - 1) for step in range(count)]


def show(codec: Codec, photo: Image, quality: float | None, folder: Path) -> Shown:
    """Compress at one rate into ``folder/q<quality>.cgen``, decode that file, find JPEG's match."""
    stem = folder / ("default" if quality is None else f"q{quality:g}")
    start = time.perf_counter()
    write_file(stem.with_name(f"{stem.name}.cgen"), codec.compress(photo, quality=quality))
    middle = time.perf_counter()
    data = read_file(stem.with_name(f"{stem.name}.cgen"))
    picture = codec.decompress(data)
    end = time.perf_counter()
    jpeg = jpeg_of_size(photo, len(data))
    write_file(stem.with_name(f"{stem.name}.png"), _png(picture))
    write_file(stem.with_name(f"{stem.name}.jpg"), jpeg)
    jpeg_picture = CLASSIC["jpeg"].decompress(jpeg)
    return Shown(
        quality=quality,
        file=stem.with_name(f"{stem.name}.cgen"),
        size=len(data),
        picture=picture,
        psnr=psnr(photo, picture),
        seconds=(middle - start, end - middle),
        jpeg_size=len(jpeg),
        jpeg_picture=jpeg_picture,
        jpeg_psnr=psnr(photo, jpeg_picture),
    )


def turn(codec: Codec, photo: Image, file: Path) -> list[Turned]:
    """Decode one file at several tau, into ``q<quality>-tau<tau>.png`` beside it.

    Nothing if no enhancer here makes such pictures of this codec's files.
    """
    from compressai_gen.codec import ModelCodec

    if not isinstance(codec, ModelCodec):  # enhancers work on the latents of models
        return []
    data = read_file(file)
    try:
        pictures = [codec.decompress(data, tau=tau) for tau in TAUS]
    except (CheckpointError, OptionError):  # no module for this checkpoint, or no enhancer
        return []
    turned = []
    for tau, picture, distance in zip(TAUS, pictures, _lpips(photo, pictures), strict=True):
        out = file.with_name(f"{file.stem}-tau{tau:g}.png")
        write_picture(picture, out)
        turned.append(Turned(tau, out, picture, psnr(photo, picture), distance))
    return turned


def _lpips(original: Image, pictures: Sequence[Image]) -> list[float | None]:
    """LPIPS-squeeze of each picture; None where its weights are missing or they are too small."""
    from compressai_gen.evaluation.measure import load_metrics
    from compressai_gen.images import to_tensor

    metrics, _ = load_metrics(["lpips-squeeze"])
    for metric in metrics.values():
        if min(original.size) >= metric.minimum_side:
            x = to_tensor(original)
            return [metric(x, to_tensor(picture)) for picture in pictures]
    return [None] * len(pictures)


def jpeg_of_size(photo: Image, size: int) -> bytes:
    """The best JPEG of at most `size` bytes; the smallest there is if none is that small."""
    compress = CLASSIC["jpeg"].compress
    fitting = bisect_right(JPEG_QUALITIES, size, key=lambda q: len(compress(photo, quality=q)))
    return compress(photo, quality=JPEG_QUALITIES[max(fitting - 1, 0)])


def psnr(original: Image, decoded: Image) -> float:
    """In dB over 8-bit RGB, infinite if identical."""
    import numpy as np

    a, b = (np.asarray(image, dtype=np.float64) for image in (original, decoded))
    mse = float(np.mean((a - b) ** 2))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def table(photo: Image, rates: Sequence[Shown]) -> str:
    """One line a rate: what the codec needs and reaches, and JPEG at the same size."""
    head = ("file", "bytes", "bpp", "PSNR", "encode", "decode", "JPEG bytes", "JPEG PSNR", "gain")
    rows = [head]
    for rate in rates:
        bpp = 8 * rate.size / (photo.width * photo.height)
        larger = " (its smallest)" if rate.jpeg_size > rate.size else ""
        rows.append(
            (
                rate.file.name,
                f"{rate.size}",
                f"{bpp:.3f}",
                f"{rate.psnr:.2f} dB",
                f"{rate.seconds[0]:.2f} s",
                f"{rate.seconds[1]:.2f} s",
                f"{rate.jpeg_size}{larger}",
                f"{rate.jpeg_psnr:.2f} dB",
                f"{rate.psnr - rate.jpeg_psnr:+.2f} dB",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines)


def side_by_side(photo: Image, rates: Sequence[Shown]) -> Image:
    """Details of original, codec and JPEG at the same size, a row a rate, with captions."""
    pixels = photo.width * photo.height
    return _sheet(
        [
            (photo, _original(photo)),
            (rate.picture, _caption(rate.file.name, rate.size, pixels, rate.psnr)),
            (rate.jpeg_picture, _caption("JPEG", rate.jpeg_size, pixels, rate.jpeg_psnr)),
        ]
        for rate in rates
    )


def dial_sheet(photo: Image, turned: Sequence[Turned]) -> Image:
    """Details of the original and of one file at several tau, with captions."""
    cells = [(each.picture, f"tau {each.tau:g}\n{qualities(each)}") for each in turned]
    return _sheet([[(photo, _original(photo)), *cells]])


def qualities(turned: Turned) -> str:
    """PSNR and, where it could be measured, LPIPS."""
    lpips = "" if turned.lpips is None else f", LPIPS-squeeze {turned.lpips:.3f}"
    return f"{turned.psnr:.2f} dB{lpips}"


def _sheet(rows: Iterable[Sequence[tuple[Image, str]]]) -> Image:
    """Details of pictures under their captions, in rows of one length."""
    from PIL import Image as pil

    grid = list(rows)
    across, down = CROP * ZOOM + GAP, CROP * ZOOM + CAPTION
    sheet = pil.new("RGB", (len(grid[0]) * across - GAP, len(grid) * down), "white")
    for row, cells in enumerate(grid):
        for column, (picture, caption) in enumerate(cells):
            _paste(sheet, (column * across, row * down), picture, caption)
    return sheet


def _original(photo: Image) -> str:
    return f"original\n{photo.width}x{photo.height}"


def _caption(name: str, size: int, pixels: int, quality: float) -> str:
    return f"{name}\n{size} bytes, {8 * size / pixels:.3f} bpp, {quality:.2f} dB"


def _paste(sheet: Image, corner: tuple[int, int], picture: Image, caption: str) -> None:
    """The middle of a picture, enlarged without smoothing, under its caption."""
    from PIL import Image as pil
    from PIL import ImageDraw, ImageFont

    left, top = ((side - CROP) // 2 for side in picture.size)
    detail = picture.crop((left, top, left + CROP, top + CROP))
    detail = detail.resize((CROP * ZOOM, CROP * ZOOM), pil.Resampling.NEAREST)
    sheet.paste(detail, (corner[0], corner[1] + CAPTION))
    ImageDraw.Draw(sheet).text(
        (corner[0] + 4, corner[1] + 3), caption, fill="black", font=ImageFont.load_default(14)
    )


def write_picture(picture: Image, path: Path) -> None:
    """A PNG, complete or not at all."""
    write_file(path, _png(picture))


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
