"""Measure codecs on a folder of pictures: compress to a file, decode elsewhere, compare."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CodecError, ImageError, MissingWeightsError
from compressai_gen.evaluation.codecs import (
    CodecSpec,
    RatePoint,
    Variant,
    goes_down,
    open_spec,
    overfits,
)
from compressai_gen.evaluation.decoder import Decoder
from compressai_gen.evaluation.protocol import Dataset
from compressai_gen.evaluation.schema import Record

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from compressai_gen.metrics.base import Metric


def load_metrics(
    names: Sequence[str], weights: Path | None = None
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Instances of the metrics, and why the others are skipped.

    Raises:
        UnknownNameError: no such metric.
    """
    from compressai_gen.plugins import registry

    classes = {name: registry("metrics").load(name) for name in names}
    ready, skipped = {}, {}
    for name, metric in classes.items():
        try:
            ready[name] = metric(weights=weights)
        except MissingWeightsError as error:
            skipped[name] = str(error)
    return ready, skipped


Encode = Callable[[float | None], bytes]
"""A quality to the file of one picture."""


class Evaluator:
    """Measures one picture at one rate point, through a real file and another process.

    Args:
        dataset: where pictures come from.
        metrics: by name.
        decoder: the other process.
        folder: a temporary folder for the files.
        device: the metrics are computed there.
        files: folder to keep the files in; None: they are not kept.
    """

    def __init__(
        self,
        dataset: Dataset,
        metrics: Mapping[str, Metric],
        decoder: Decoder,
        folder: Path,
        device: str = "cpu",
        files: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.metrics = metrics
        self.decoder = decoder
        self.device = device
        self.files = files
        self.file = folder / "picture.bin"
        self.picture = folder / "picture.ppm"
        self._warm: set[tuple[CodecSpec, Variant]] = set()
        self._ladders: dict[tuple[CodecSpec, Variant, str], Encode] = {}

    def measure(self, point: RatePoint, source: str) -> Record:
        """Compress, decode and compare one picture.

        Raises:
            CodecError: the codec fails, or gives back another size; the message names the picture.
                Or the file cannot be kept.
        """
        original = self.dataset.load(source)
        key = point.codec, point.variant, source
        if goes_down(point.codec):
            if key not in self._ladders:
                self._ladders = {key: _encoder(point, original)}  # one picture's at a time
            encode = self._ladders[key]
        else:
            encode = _encoder(point, original)
            if key[:2] not in self._warm and not overfits(point.codec):
                # first calls are slower: not timed
                self._code(point, _encoder(point, original.crop((0, 0, 64, 64))))
        try:
            encoding, decoding = self._code(point, encode)
        except CodecError as error:
            raise CodecError(f"{source} at quality {point.quality}: {error}") from error
        decoded = _read_decoded(self.picture)
        if decoded.size != original.size:
            raise CodecError(f"{source}: {original.size} went in, {decoded.size} came out")
        pixels = original.width * original.height
        values = {"bpp": 8 * self.file.stat().st_size / pixels}
        measured, failed = self._compare(original, decoded)
        values |= measured | {"encoding_time": encoding, "decoding_time": decoding}
        values |= self._own_figures(point, original)
        if self.files is not None:
            self._keep(self.files / point.file_name(source))
        return Record(point.label, source, point.quality, values, failed)

    def _code(self, point: RatePoint, encode: Encode) -> tuple[float, float]:
        """Seconds of encoding and decoding; leaves the file and the decoded picture."""
        start = time.perf_counter()
        data = encode(point.quality)
        encoding = time.perf_counter() - start
        self.file.write_bytes(data)
        if (point.codec, point.variant) not in self._warm:
            self.decoder.decode(point, self.file, self.picture)  # not timed, likewise
            self._warm.add((point.codec, point.variant))
        return encoding, self.decoder.decode(point, self.file, self.picture)

    def _keep(self, path: Path) -> None:
        from compressai_gen.bitstream.files import write_file

        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, self.file.read_bytes())

    def _own_figures(self, point: RatePoint, original: Image) -> dict[str, float]:
        """What only the codec can measure of a picture and its file, if it measures something."""
        codec = open_spec(point.codec)
        if not hasattr(codec, "figures"):
            return {}
        return dict(codec.figures(original, self.file.read_bytes()))

    def _compare(self, original: Image, decoded: Image) -> tuple[dict[str, float], dict[str, str]]:
        x, x_hat = (_tensor(image, self.device) for image in (original, decoded))
        values, failed = {}, {}
        for name, metric in self.metrics.items():
            try:
                value = metric(x, x_hat)
            except ImageError as error:
                failed[name] = str(error)
                continue
            if math.isfinite(value):
                values[name] = value
            elif value > 0:
                failed[name] = f"{value}: the picture came back without any loss"
            else:  # not a number, or -inf
                failed[name] = f"{value}: the metric has no value for this picture"
        return values, failed


def _encoder(point: RatePoint, image: Image) -> Encode:
    """Of one picture, with the options of a rate point."""
    codec: Any = open_spec(point.codec)
    options: Any = {}
    if point.variant.encoding:
        from compressai_gen.codec import checked_options

        name = getattr(codec, "name", point.codec.name)
        options = checked_options(name, dict(point.variant.encoding), "compress")
    if goes_down(point.codec):
        encode: Encode = codec.encoder(image, **options)
        return encode
    return lambda quality: codec.compress(image, quality=quality, **options)


def _read_decoded(path: Path) -> Image:
    from PIL import Image as pil

    with pil.open(path) as picture:
        return picture.convert("RGB")


def _tensor(image: Image, device: str) -> Tensor:
    from compressai_gen.images import to_tensor

    return to_tensor(image).to(device)
