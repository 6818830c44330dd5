"""The two ways from a padded picture to the chunks of a file and back: portable, and float-host."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.bitstream import Header
from compressai_gen.bitstream.container import MAX_CHUNK
from compressai_gen.codec.geometry import STRIDE, padded
from compressai_gen.codec.host_strings import decode_strings, encode_strings
from compressai_gen.errors import CorruptedFileError
from compressai_gen.models.latents import analysis, latent_of, synthesis, ungained
from compressai_gen.models.variable_rate import VariableRateModel
from compressai_gen.notes import NonPortableWarning

Encode = Callable[[float | None], tuple[list[bytes], int]]
"""Rate point to chunks and the CRC32 of the symbols."""


class Coder(Protocol):
    """What `ModelCodec` needs of either."""

    def encoder(self, x: Tensor) -> Encode:
        """Chunks of a picture, shape (1, 3, H, W), H and W multiples of 64, by rate point."""
        ...

    def latent(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        """What ``g_s`` takes, shape (1, M, H/16, W/16), of the padded picture."""
        ...

    def picture(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        """The picture, padded, shape (1, 3, H, W)."""
        ...


class PortableCoder:
    """Codes with the model's fixed-point entropy path: one string, its symbols checked."""

    def __init__(self, model: CompressionModel, name: str) -> None:
        self.model = model
        self.name = name

    def encoder(self, x: Tensor) -> Encode:
        latents = _latents(self.model, x)

        def encode(quality: float | None) -> tuple[list[bytes], int]:
            (encoded,) = self.model.portable.encode(*latents(quality), quality)
            return split(encoded.string), encoded.crc

        return encode

    def latent(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        """y_hat of a file, as ``g_s`` takes it.

        Raises:
            CorruptedFileError: the symbols do not have the header's checksum, or are impossible.
        """
        shape = (padded(header.height) // STRIDE, padded(header.width) // STRIDE)
        (decoded,) = self.model.portable.decode([b"".join(chunks)], shape, quality)
        if decoded.crc != header.symbols_crc:
            raise CorruptedFileError(
                "the checksum of the decoded symbols does not match: the file is damaged, or was "
                "written by a faulty encoder"
            )
        y_hat = decoded.y_hat.to(next(self.model.g_s.parameters()).device)
        return ungained(self.model, y_hat, quality)

    def picture(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        return synthesis(self.model, self.latent(header, chunks, quality))


class HostCoder:
    """Codes with the model's own ``compress``; its files have no checksum of the symbols."""

    def __init__(self, model: CompressionModel, name: str) -> None:
        self.model = model
        self.name = name

    def encoder(self, x: Tensor) -> Encode:
        warnings.warn(
            f"{self.name} has no fixed-point entropy path: the file decodes for sure only with "
            "this machine, device and number of threads",
            NonPortableWarning,
            stacklevel=4,
        )
        return lambda quality: (encode_strings(self.model, x, quality), 0)

    def latent(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        """What ``decompress`` hands to ``g_s``.

        Raises:
            CorruptedFileError: as for `picture`.
        """
        return latent_of(self.model, lambda: self.picture(header, chunks, quality))

    def picture(self, header: Header, chunks: list[bytes], quality: float | None) -> Tensor:
        height, width = padded(header.height), padded(header.width)
        return decode_strings(self.model, chunks, height, width, quality)


def split(string: bytes) -> list[bytes]:
    """One string as chunks no longer than the container allows; at least one."""
    starts = range(0, max(len(string), 1), MAX_CHUNK)
    return [string[start : start + MAX_CHUNK] for start in starts]


def _latents(model: CompressionModel, x: Tensor) -> Callable[[float | None], tuple[Tensor, Tensor]]:
    """y and z by rate point; g_a of a variable-rate model runs once."""
    if not isinstance(model, VariableRateModel):
        return lambda quality: analysis(model, x, quality)
    y = model.g_a(x)
    return lambda quality: model.gained(y, model.rate_point(quality, None, None))
