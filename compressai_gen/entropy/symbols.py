"""Where the symbols come from: the latents of an encoder, or the stream of a decoder."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from compressai_gen.entropy.arithmetic import ONE
from compressai_gen.entropy.priors import Part
from compressai_gen.entropy.range_coder import (
    MAX_SYMBOL,
    Decoder,
    Encoder,
    Integers,
    as_integers,
)
from compressai_gen.entropy.tables import CdfTables
from compressai_gen.errors import CodecError


class SymbolSource(Protocol):
    """What :meth:`PortableEntropy.walk` asks for symbols, in coding order."""

    def symbols(
        self, part: Part | None, indexes: Integers, tables: CdfTables, means: Tensor
    ) -> Tensor:
        """The next symbols.

        Args:
            part: of y; None for z.
            indexes: row of ``tables`` for each symbol, shape (C * P,).
            tables: distributions.
            means: integers in float64, shape (C, P).

        Returns:
            integers in float64, shape (C, P).
        """
        ...


class Rounding:
    """Symbols of an encoder: the latents, rounded around their means.

    Args:
        y: shape (M, H W).
        z: shape (N, h w).
    """

    def __init__(self, y: Tensor, z: Tensor) -> None:
        self.encoder = Encoder()
        self._y, self._z = y, z
        self._pushed: list[tuple[Integers, Integers, CdfTables]] = []

    def symbols(
        self, part: Part | None, indexes: Integers, tables: CdfTables, means: Tensor
    ) -> Tensor:
        """Round around the means, and push."""
        latent = self._z if part is None else self._part(part)
        real = latent.to(means.device).double() - means / ONE
        symbols = real.round().clamp(-MAX_SYMBOL, MAX_SYMBOL)
        values = as_integers(symbols)
        self.encoder.push(values, indexes, tables)
        self._pushed.append((values, indexes, tables))
        return symbols

    def _part(self, part: Part) -> Tensor:
        return self._y[part.channels][:, part.positions.to(self._y.device)]

    def finish(self) -> bytes:
        """The stream, after decoding it.

        Raises:
            CodecError: if it does not decode to what was pushed.
        """
        string = self.encoder.finish()
        decoder = Decoder(string, sum(values.size for values, _, _ in self._pushed))
        for values, indexes, tables in self._pushed:
            if (decoder.pull(indexes, tables) != values).any():
                raise CodecError("the range coder failed its self-check; nothing was written")
        return string


class Reading:
    """Symbols of a decoder: what the stream says."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def symbols(
        self, part: Part | None, indexes: Integers, tables: CdfTables, means: Tensor
    ) -> Tensor:
        """Pull."""
        values = torch.from_numpy(self.decoder.pull(indexes, tables))
        return values.to(means.device, torch.float64).view(means.shape)
