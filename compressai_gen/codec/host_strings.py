"""The float-host profile: the strings a CompressAI model writes by itself, as chunks of a file.

For models whose entropy path has no fixed-point form (serial context, tables rebuilt in float).
The first chunk is the layout: empty for the usual ``[[y], [z]]`` with z's shape (H/64, W/64),
otherwise JSON; the strings follow in their order.

CompressAI's range decoder never looks where its string ends, so strings from a file are checked
and followed by as many zeros as it could consume: a word for every symbol and, since a run of
digits 15 announces fifteen times as many digits, sixteen times the string. A chunk has at most
8 MB, so that costs at most 134 MB a string, and only while it is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from compressai.models import CompressionModel
from compressai.models.vbr import ScaleHyperpriorVbr
from torch import Tensor

from compressai_gen.errors import CorruptedFileError

MAX_CHANNELS = 1024  # of a latent in a layout
MAX_STRINGS = 32  # of a file, since each is padded for the whole picture; ELIC has eleven


def encode_strings(model: CompressionModel, x: Tensor, quality: float | None) -> list[bytes]:
    """One image, shape (1, 3, H, W), H and W multiples of 64, to chunks."""
    coded = model.compress(x, **_rate_arguments(model, quality))
    strings: list[bytes] = []
    layout = {"strings": _without_strings(coded["strings"], strings), "shape": coded["shape"]}
    if _plain(layout) == _plain(_usual(x.shape[-2] // 64, x.shape[-1] // 64, len(strings))):
        return [b"", *strings]
    return [_plain(layout).encode(), *strings]


def decode_strings(
    model: CompressionModel, chunks: list[bytes], height: int, width: int, quality: float | None
) -> Tensor:
    """Chunks of `encode_strings` to x_hat, shape (1, 3, height, width), multiples of 64.

    Raises:
        CorruptedFileError: the chunks do not fit their layout, or the model cannot decode them.
    """
    layout, *strings = chunks
    try:
        given = json.loads(layout) if layout else _usual(height // 64, width // 64, len(strings))
        _check_shape(given["shape"], height // 16, width // 16)
        _check_count(given["strings"], len(strings))
        nested = _with_strings(given["strings"], iter(_padded(model, strings, height * width)))
        decoded = model.decompress(nested, given["shape"], **_rate_arguments(model, quality))
        x_hat: Tensor = decoded["x_hat"]
    except (LookupError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise CorruptedFileError(f"{type(model).__name__} cannot decode it: {reason}") from error
    if tuple(x_hat.shape) != (1, 3, height, width):
        raise CorruptedFileError(
            f"decoded to shape {tuple(x_hat.shape)}, the header says {height}x{width} padded"
        )
    return x_hat


def levels(model: CompressionModel) -> int | None:
    """Rate points of a stock variable-rate model, None for other models."""
    return len(model.Gain) if isinstance(model, ScaleHyperpriorVbr) else None


def _rate_arguments(model: CompressionModel, quality: float | None) -> dict[str, Any]:
    """Arguments of a stock variable-rate model; between two levels its gain is exponential."""
    if quality is None or not isinstance(model, ScaleHyperpriorVbr):
        return {}
    lower = min(int(quality), len(model.Gain) - 2)
    log_gain = model.Gain.detach().abs().log()
    scale = torch.lerp(log_gain[lower], log_gain[lower + 1], quality - lower).exp().reshape(1)
    if model.vr_entbttlnck:  # its tables of z depend on the rate
        model.update(force=True, scale=scale)
    return {"stage": 2, "inputscale": scale}


def _padded(model: CompressionModel, strings: list[bytes], pixels: int) -> list[bytes]:
    """The strings and, behind each, all the zeros its decoder could consume."""
    for string in strings:
        if len(string) < 8 or len(string) % 4:
            raise ValueError(f"a string of {len(string)} bytes; they are whole words, at least two")
    channels = max(getattr(layer, "in_channels", 0) for layer in model.g_s.modules())
    symbols = channels * pixels // 256
    return [string + bytes(4 * symbols + 16 * len(string) + 64) for string in strings]


def _check_count(nested: Any, count: int) -> None:
    places = _places(nested)
    if places != count or count > MAX_STRINGS:
        raise ValueError(f"{count} strings for {places} places, at most {MAX_STRINGS}")


def _places(nested: Any) -> int:
    return 1 if nested is None else sum(map(_places, nested))


def _check_shape(shape: Any, height: int, width: int) -> None:
    """Refuses a layout with a latent, [h, w] or [channels, h, w], larger than y's height, width."""
    parts = list(shape.values()) if isinstance(shape, dict) else shape
    if all(isinstance(part, int) for part in parts):
        limits = (MAX_CHANNELS, height, width)[-len(parts) :]
        if not 2 <= len(parts) <= 3 or not all(map(_in_range, parts, limits)):
            raise ValueError(f"a latent of shape {parts}")
    else:
        for part in parts:
            _check_shape(part, height, width)


def _in_range(value: int, most: int) -> bool:
    return 1 <= value <= most


def _usual(height: int, width: int, count: int) -> dict[str, Any]:
    return {"strings": [[None] for _ in range(count)], "shape": [height, width]}


def _plain(layout: dict[str, Any]) -> str:
    return json.dumps(layout, separators=(",", ":"))


def _without_strings(nested: Any, strings: list[bytes]) -> Any:
    """``nested`` with every string replaced by None; the strings are appended to ``strings``."""
    if isinstance(nested, bytes):
        strings.append(nested)
        return None
    return [_without_strings(part, strings) for part in nested]


def _with_strings(nested: Any, strings: Iterator[bytes]) -> Any:
    if nested is None:
        return next(strings)
    return [_with_strings(part, strings) for part in nested]
