"""Opening a codec by what the command line said, once for many pictures and in either process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import OptionError
from compressai_gen.evaluation.classic import CLASSIC, ClassicCodec

if TYPE_CHECKING:
    from compressai_gen.codec import Codec


@dataclass(frozen=True)
class Variant:
    """One way to make files, and one way to decode them.

    Attributes:
        name: what tells it from the others, such as ``"tau0.3"``.
        options: names and values that `decompress` is called with, as on the command line.
        encoding: likewise for `compress`.
    """

    name: str = ""
    options: tuple[tuple[str, str], ...] = ()
    encoding: tuple[tuple[str, str], ...] = ()


PLAIN = Variant()


@dataclass(frozen=True)
class CodecSpec:
    """Arguments of `compressai_gen.codec.open_codec`; plain values, so that they travel as JSON.

    Attributes:
        name: a registered codec, or one of the classic baselines.
        checkpoint: folder or Hub repo id; None for the codec's own.
        device: of the codec.
        dtype: of its synthesis, ``"float32"``, ``"bfloat16"`` or ``"float16"``; None for its own.
        quality: chooses the weights of a single-rate model; None where one model has every rate.
    """

    name: str
    checkpoint: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    quality: float | None = None

    @property
    def is_classic(self) -> bool:
        return self.name in CLASSIC


@lru_cache(maxsize=2)  # single-rate models: one a rate point, used one after the other
def open_spec(spec: CodecSpec) -> Codec | ClassicCodec:
    """The codec, opened at its first use in this process.

    Raises:
        UnknownNameError: no such codec.
        CheckpointError: no such checkpoint.
        CodecError: a classic codec that Pillow lacks here.
    """
    if spec.is_classic:
        CLASSIC[spec.name].check_available()
        return CLASSIC[spec.name]
    from compressai_gen.codec import open_codec

    return open_codec(
        spec.name,
        checkpoint=spec.checkpoint,
        quality=spec.quality,
        device=spec.device,
        dtype=spec.dtype,
    )


def goes_down(spec: CodecSpec) -> bool:
    """Whether its fit goes on from one at a higher quality (`Codec`): such a codec is measured
    picture by picture, from the highest quality down; every other one quality by quality.
    """
    return bool(getattr(open_spec(spec), "goes_down", False))


def overfits(spec: CodecSpec) -> bool:
    """Whether its `compress` is a training (`Codec`), of minutes or more."""
    return bool(getattr(open_spec(spec), "overfits", False))


@dataclass(frozen=True)
class RatePoint:
    """One point of a sweep.

    Attributes:
        codec: which codec to open.
        quality: what its `compress` is called with, and what result files call the point; None
            for the codec's default.
        variant: what it is decoded with.
    """

    codec: CodecSpec
    quality: float | None
    variant: Variant = PLAIN

    @property
    def label(self) -> str:
        """Name of the curve it belongs to."""
        return "-".join(filter(None, (self.codec.name, self.variant.name)))

    def file_name(self, source: str) -> str:
        """Of the file of a picture, where files are kept, such as ``sub/cup.png-jpeg-q20.jpeg``."""
        quality = "" if self.quality is None else f"-q{self.quality:.12g}"
        suffix = self.codec.name if self.codec.is_classic else "cgen"
        return f"{source}-{self.label}{quality}.{suffix}"


def rate_points(
    spec: CodecSpec, qualities: Sequence[float], variant: Variant = PLAIN
) -> list[RatePoint]:
    """One rate point a quality: all of one variable-rate codec, or of one model each.

    Args:
        spec: what is evaluated; opened here, so that whatever is missing shows before the work.
        qualities: wanted; empty for a classic codec's own sweep, or a codec's default rate.
        variant: how the files are decoded.

    Raises:
        UnknownNameError: no such codec.
        CheckpointError: no such checkpoint.
        OptionError: a quality the codec does not have, or anything else said of a classic codec.
    """
    if spec.is_classic:
        _check_classic(spec, variant)
        qualities = qualities or CLASSIC[spec.name].sweep
    wanted: Sequence[float | None] = qualities or [None]
    return [_rate_point(spec, quality, variant) for quality in wanted]


def _check_classic(spec: CodecSpec, variant: Variant) -> None:
    """Refuse what only a codec with networks can follow."""
    given = [name for name in ("checkpoint", "dtype") if getattr(spec, name) is not None]
    given += [name for name, _ in variant.options + variant.encoding]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(f"{spec.name} has no {flags}: leave it out, or give another --codec")


def _rate_point(spec: CodecSpec, quality: float | None, variant: Variant) -> RatePoint:
    if quality is not None and _one_model_a_rate(spec):
        spec, quality = replace(spec, quality=quality), None
    codec: Any = open_spec(spec)
    if hasattr(codec, "check_quality"):  # file codecs of plugins check it in compress
        quality = codec.check_quality(quality)
    from compressai_gen.codec import checked_options

    name = getattr(codec, "name", spec.name)
    checked_options(name, dict(variant.options), "decompress")
    checked_options(name, dict(variant.encoding), "compress")
    return RatePoint(spec, quality, variant)


def _one_model_a_rate(spec: CodecSpec) -> bool:
    """Whether a quality chooses the weights, as in most of CompressAI's zoo."""
    from compressai_gen.plugins import registry

    if spec.is_classic or spec.checkpoint is not None or spec.name in registry("codecs"):
        return False
    models = registry("zoo_models")
    if spec.name in models:
        return not models.entry(spec.name).details["variable_rate"]
    return not spec.name.endswith("-vbr")
