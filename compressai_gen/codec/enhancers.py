"""Decode-time enhancers: a plugin that makes a better picture from another codec's latents.

An enhancer is registered with the codecs it understands and its options; it is loaded when one of
its options is given at ``decompress`` (or when the file carries the sender's wish for one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.bitstream import FIELDS, Header
from compressai_gen.errors import OptionError
from compressai_gen.models.latents import in_fast_order, synthesis
from compressai_gen.options import Option, parse_options
from compressai_gen.plugins import registry

EVERY_CODEC = "*"  # among the codecs of an enhancer: every CompressAI model, stock or ours
WISHES = tuple(field.name for field in FIELDS if field.flag and field.name != "seed")
"""Options a header can carry. Its seed is none: it is no wish, but part of the file."""


@dataclass(frozen=True)
class DecodedLatents:
    """What an enhancer gets.

    Attributes:
        y_hat: as the synthesis takes it (a variable-rate model's gain is undone), shape
            (1, M, h, w), float32, on the device of the synthesis.
        quality: rate point, None for a single-rate model.
        header: of the file; ``height`` and ``width`` are the picture's size.
        model: with its synthesis ``g_s`` in the dtype that was asked for.
        codec: name of the codec that wrote the file.
        synthesis: 2 bytes that name the networks from latents to pixels; together with the header's
            fingerprint they name the checkpoint.
        seed: of whatever is random in making the picture: the header's, or else the CRC32 of the
            coded payload, so that the picture is a function of the file.
    """

    y_hat: Tensor
    quality: float | None
    header: Header
    model: CompressionModel
    codec: str
    synthesis: bytes
    seed: int

    def synthesize(self, y_hat: Tensor | None = None) -> Tensor:
        """The codec's own picture of its latents, or of others, shape (1, 3, 16 h, 16 w)."""
        if y_hat is None or y_hat is self.y_hat:
            return synthesis(self.model, self.y_hat)
        return synthesis(self.model, in_fast_order(y_hat))


class Enhancer(Protocol):
    """The contract; what is registered is called without arguments to make one."""

    def enhance(self, decoded: DecodedLatents, **options: Any) -> Tensor:
        """A picture of shape (1, 3, H, W), H and W at least the header's; it is cropped and
        clamped to [0, 1] afterwards."""
        ...


def enhancer_options(codec: str) -> dict[str, tuple[Option, ...]]:
    """Options of the enhancers that understand ``codec``, by the enhancer's name."""
    enhancers = registry("enhancers")
    entries = [enhancers.entry(name) for name in enhancers]
    return {
        e.name: e.details["options"]
        for e in entries
        if codec in e.details["codecs"] or EVERY_CODEC in e.details["codecs"]
    }


def choose_enhancer(
    codec: str, given: Mapping[str, Any], verb: str
) -> tuple[str, dict[str, Any]] | None:
    """The enhancer that has all the given options, and the checked options; None if none given.

    Raises:
        OptionError: no enhancer of this codec has them all, or a bad value.
    """
    if not given:
        return None
    offers = enhancer_options(codec)
    for name, options in offers.items():
        if {option.name for option in options if verb in option.verbs}.issuperset(given):
            return name, parse_options(given, options, name, verb)
    flags = " ".join(f"--{name.replace('_', '-')}" for name in given)
    there = "; ".join(f"{n}: {' '.join(o.flag for o in options)}" for n, options in offers.items())
    raise OptionError(
        f"{codec} has no option {flags} at {verb}; "
        + (f"its enhancers have {there}" if there else "it has none, and no enhancer for it")
    )


def enhancement(codec: str, given: Mapping[str, Any], verb: str) -> dict[str, Any] | None:
    """The ``name`` of the enhancer chosen, and what it gets, defaults included; None if none given.

    Raises:
        OptionError: as for `choose_enhancer`.
    """
    chosen = choose_enhancer(codec, given, verb)
    if chosen is None:
        return None
    name, checked = chosen
    defaults = {o.name: o.default for o in enhancer_options(codec)[name] if o.default is not None}
    return {"name": name, **defaults, **checked}


def wishes(header: Header) -> dict[str, Any]:
    """The options that the sender stored in the header."""
    stored = {name: getattr(header, name) for name in WISHES}
    return {name: value for name, value in stored.items() if value is not None}


def check_wishes(codec: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The sender's options as header fields.

    Raises:
        OptionError: not an option of an enhancer of this codec, or one that no header field holds.
    """
    chosen = choose_enhancer(codec, options, "compress")
    if chosen is None:
        return {}
    name, checked = chosen
    unkept = set(checked).difference(WISHES)
    if unkept:
        raise OptionError(
            f"{', '.join(sorted(unkept))} of {name} cannot be kept in the file: give it when "
            "decompressing"
        )
    return checked
