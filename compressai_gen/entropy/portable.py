"""The entropy path of a model in integers: latents to a range-coder stream and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import (
    ARITHMETIC,
    ONE,
    clamp_,
    exact_device,
    to_float64,
    to_real,
)
from compressai_gen.entropy.families import prior_from_config
from compressai_gen.entropy.gains import FixedGains
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.entropy.priors import Prior
from compressai_gen.entropy.range_coder import Decoder, as_integers
from compressai_gen.entropy.symbols import Reading, Rounding, SymbolSource
from compressai_gen.entropy.tables import CdfTables, scale_indexes
from compressai_gen.errors import CheckpointError, CodecError, CorruptedFileError

UPSAMPLING = 4
"""y has four times the resolution of z."""

MAX_SIDE = 1024
"""Largest height or width of z: 64 times that is the largest picture a file can hold."""


@dataclass(frozen=True)
class Encoded:
    """One picture's latents, coded.

    Attributes:
        string: the stream.
        crc: CRC32 of the symbols of z, then of y, as little-endian int32 in coding order.
        y_hat: what the decoder will get, shape (1, M, 4h, 4w), float32.
        z_hat: likewise, as it is coded, shape (1, N, h, w).
    """

    string: bytes
    crc: int
    y_hat: Tensor
    z_hat: Tensor


@dataclass(frozen=True)
class Decoded:
    """One picture's latents, decoded; attributes as in :class:`Encoded`."""

    y_hat: Tensor
    z_hat: Tensor
    crc: int


class PortableEntropy(nn.Module):
    """Everything that encoder and decoder must compute identically, in integers.

    .. code-block:: none

        z ─► round ─► symbols ─► ×inverse_gain(q) ─► h_s ──┬──────────► prior ─► scales, means
                         │                                 └─ context ◄─ y_hat      │
                         ▼                                                          ▼
                       stream ◄──────────────────────────────── symbols of y ◄─ round(y - mean)

    All state is integer buffers, which ``.half()``, ``.to(dtype)`` and the like leave alone. It is
    attached to a model as ``model.portable`` and saved with it. Made by
    :func:`compressai_gen.entropy.export`; :meth:`from_config` makes an empty one to load into.

    Args:
        h_s: hyper-synthesis.
        prior: scales and means of y.
        gains: inverse gains of z, or None.
        z_tables: distributions of z, one row a channel.
        y_tables: distributions of y, one row a scale.
    """

    medians: Tensor
    thresholds: Tensor

    def __init__(
        self,
        h_s: FixedNetwork,
        prior: Prior,
        gains: FixedGains | None,
        z_tables: CdfTables,
        y_tables: CdfTables,
    ) -> None:
        super().__init__()
        self.h_s, self.prior, self.gains = h_s, prior, gains
        self.z_tables, self.y_tables = z_tables, y_tables
        channels, scales = z_tables.length.numel(), y_tables.length.numel()
        self.register_buffer("medians", torch.zeros(channels, dtype=torch.int32))
        self.register_buffer("thresholds", torch.zeros(scales - 1, dtype=torch.int32))
        inputs, outputs = h_s.channels()
        if inputs != channels or (gains is not None and gains.log2.size(1) != channels):
            raise CheckpointError("the networks and tables of the entropy path do not fit together")
        self.channels = prior.channels(outputs)
        """Channels M of y."""

    # -- state ----------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """JSON-able; what :meth:`from_config` needs to make the buffers' shapes."""
        return {
            "arithmetic": dict(ARITHMETIC),
            "h_s": self.h_s.config(),
            "prior": self.prior.config(),
            "gains": self.gains.config() if self.gains else None,
            "z_tables": self.z_tables.config(),
            "y_tables": self.y_tables.config(),
        }

    @classmethod
    def from_config(cls, config: Any) -> PortableEntropy:
        """An empty entropy path; ``load_state_dict`` fills it.

        Raises:
            CheckpointError: if ``config`` did not come from :attr:`config`.
        """
        if not isinstance(config, dict) or config.get("arithmetic") != ARITHMETIC:
            raise CheckpointError(
                "this checkpoint's fixed-point arithmetic is not the one of this version "
                f"({ARITHMETIC}); update compressai-gen or export the model again"
            )
        gains = config.get("gains")
        return cls(
            FixedNetwork.from_config(config.get("h_s")),
            prior_from_config(config.get("prior")),
            None if gains is None else FixedGains.from_config(gains),
            CdfTables.from_config(config.get("z_tables")),
            CdfTables.from_config(config.get("y_tables")),
        ).eval()

    def fingerprint(self) -> bytes:
        """6 bytes that name everything the decoding of symbols depends on; equal on any device."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name, buffer in sorted(self.named_buffers()):
            digest.update(name.encode())
            digest.update(buffer.cpu().contiguous().numpy().tobytes())
        return digest.digest()[:6]

    def _apply(self, fn: Any, recurse: bool = True) -> PortableEntropy:
        """Let ``fn`` move the buffers to a device, and nothing else."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    # -- coding ---------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, y: Tensor, z: Tensor, quality: float | None = None) -> list[Encoded]:
        """Code latents, one stream a picture, and check each stream by decoding it.

        Args:
            y: shape (B, M, 4h, 4w), real, as it is to be rounded; any dtype and device.
            z: shape (B, N, h, w), likewise.
            quality: rate point in steps of 1/256; not used without gains.

        Raises:
            CodecError: if shapes do not fit or a latent is not finite.
            OptionError: if the quality is missing or out of range.
        """
        self._check_latents(y, z)
        return [self._encode_one(y_i, z_i, quality) for y_i, z_i in zip(y, z, strict=True)]

    @torch.no_grad()
    def decode(
        self, strings: list[bytes], shape: tuple[int, int], quality: float | None = None
    ) -> list[Decoded]:
        """Decode streams of :meth:`encode`.

        Args:
            strings: untrusted, one a picture.
            shape: (h, w) of z.
            quality: as given to :meth:`encode`.

        Raises:
            CorruptedFileError: if a string cannot have come from :meth:`encode`.
            OptionError: if the quality is missing or out of range.
        """
        height, width = (int(side) for side in shape)
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise CorruptedFileError(f"a latent of {height}x{width} is out of range")
        return [self._decode_one(string, (height, width), quality) for string in strings]

    def _encode_one(self, y: Tensor, z: Tensor, quality: float | None) -> Encoded:
        source = Rounding(y.flatten(1), z.flatten(1))
        latents = self.walk(source, (z.size(1), z.size(2)), quality)
        string = source.finish()
        y_hat, z_hat = (to_real(latent).to(y.device)[None] for latent in latents)
        return Encoded(string, source.encoder.crc, y_hat, z_hat)

    def _decode_one(self, string: bytes, shape: tuple[int, int], quality: float | None) -> Decoded:
        positions = shape[0] * shape[1]
        if self.z_tables.least_bits() * positions > 8 * len(string) + 64:
            raise CorruptedFileError("the entropy-coded data is too short for a picture this large")
        count = positions * (self.medians.numel() + self.channels * UPSAMPLING**2)
        source = Reading(Decoder(string, count))
        latents = self.walk(source, shape, quality)
        source.decoder.finish()
        y_hat, z_hat = (to_real(latent).to(self.medians.device)[None] for latent in latents)
        return Decoded(y_hat, z_hat, source.decoder.crc)

    def walk(
        self, source: SymbolSource, shape: tuple[int, int], quality: float | None
    ) -> tuple[Tensor, Tensor]:
        """Go through the symbols of z and y in the one order that encoder and decoder share.

        Args:
            source: rounds the symbols, or reads them.
            shape: (h, w) of z.
            quality: rate point.

        Returns:
            y_hat, shape (M, 4h, 4w), and z_hat, shape (N, h, w), as integers in float64.
        """
        device = exact_device(self.medians.device)
        medians = to_float64(self.medians, device).unsqueeze(1)
        rows = torch.arange(medians.size(0)).repeat_interleave(shape[0] * shape[1])
        means = medians.expand(-1, shape[0] * shape[1])
        symbols = source.symbols(None, as_integers(rows), self.z_tables, means)
        z_hat = clamp_(symbols * ONE + means).view(-1, *shape)
        side = self.h_s(self.gains.scale(z_hat, quality) if self.gains else z_hat.clone())
        if side.shape[1:] != (UPSAMPLING * shape[0], UPSAMPLING * shape[1]):
            raise CheckpointError(f"h_s does not enlarge by {UPSAMPLING}; export the model again")
        y_hat = side.new_zeros(self.channels, *side.shape[1:])
        for part, scales, means in self.prior.steps(side, y_hat):
            indexes = as_integers(scale_indexes(scales, self.thresholds))
            symbols = source.symbols(part, indexes, self.y_tables, means)
            y_hat[part.channels].flatten(1)[:, part.positions] = clamp_(symbols * ONE + means)
        return y_hat, z_hat

    def _check_latents(self, y: Tensor, z: Tensor) -> None:
        batch, channels, height, width = z.shape
        size = (batch, self.channels, UPSAMPLING * height, UPSAMPLING * width)
        if channels != self.medians.numel() or y.shape != size:
            raise CodecError(
                f"latents of shape {tuple(y.shape)} and {tuple(z.shape)} do not fit this entropy "
                f"path: z has {self.medians.numel()} channels, y {self.channels} channels and "
                "4 times the size of z"
            )
        if not bool(y.isfinite().all() and z.isfinite().all()):
            raise CodecError(
                "the latents hold infinities or NaN: run the analysis in float32, or the "
                "checkpoint's training has diverged"
            )
