"""One rANS stream with several pushes, safe against any bytes.

CompressAI's coder (C++, 64 bit state, 32 bit words, 16 bit probabilities) reads its words without
looking for the end of the stream, and codes values outside a table with a run of 4 bit digits
whose length the stream itself states. Two things keep every read inside our buffer:

- That escape cannot occur: :meth:`CdfTables.lists` gives it probability zero. The tail symbol in
  front of it is an ordinary symbol here, and what lies behind it is coded by us after the symbols
  of the push: the number of digits (at most ``MAX_DIGITS``), then the digits, with a uniform table.
- Reading n symbols takes a bounded number of words. The initial state is at least 2**31 (checked)
  and every state is below 2**63; a symbol divides the state by at most 2**16 (a digit by 2**4) but
  for a relative rounding error below 2**-15; a word multiplies it by 2**32. So n symbols and m
  digits take at most ``3 + (17 n + 5 m) / 32`` words, and that many zero words are appended.

Afterwards :meth:`Decoder.finish` demands that encoding the symbols again gives the same bytes,
which refuses trailing bytes, non-canonical streams and everything that was read beyond the end.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from compressai.ans import BufferedRansEncoder, RansDecoder

from compressai_gen.entropy.tables import TOTAL, CdfTables
from compressai_gen.errors import CodecError, CorruptedFileError

MAX_SYMBOL = 2**14 - 1
"""Symbols are limited to +-MAX_SYMBOL."""

MAX_DIGITS = 6
"""4 bit digits behind a tail symbol: 24 bits hold twice any symbol plus any table offset."""

CHUNK = 2**18
"""Symbols handed to the C++ coder at a time: bounds the Python lists."""

Integers = npt.NDArray[np.int64]

_DIGIT_CDF = [[*range(0, TOTAL + 1, TOTAL // 16), TOTAL]]
_DIGIT_LENGTH = [18]


class Encoder:
    """Collects symbols and writes them as one stream.

    Attributes:
        crc: CRC32 of the symbols so far, as little-endian int32 in coding order.
    """

    def __init__(self) -> None:
        self._coder = BufferedRansEncoder()
        self._pushed = 0
        self.crc = 0

    def push(self, symbols: Integers, indexes: Integers, tables: CdfTables) -> None:
        """Append symbols.

        Args:
            symbols: shape (n,), each within +-MAX_SYMBOL.
            indexes: shape (n,), the row of ``tables`` that codes each symbol.
            tables: distributions.
        """
        self.crc = _crc(symbols, self.crc)
        places = symbols - tables.offsets()[indexes]
        tails = tables.tails()[indexes]
        escaped = (places < 0) | (places >= tails)
        cdfs, lengths = tables.lists()
        self._push(np.where(escaped, tails, places), indexes, cdfs, lengths)
        if escaped.any():
            counts, digits = _to_digits(places[escaped], tails[escaped])
            self._push_digits(counts)
            self._push_digits(digits)

    def finish(self) -> bytes:
        """The stream; its length is a multiple of 4.

        Raises:
            CodecError: for less than four symbols, which the C++ coder cannot flush safely.
        """
        if self._pushed < 4:
            raise CodecError(f"a stream needs at least 4 symbols, got {self._pushed}")
        return bytes(self._coder.flush())

    def _push_digits(self, digits: Integers) -> None:
        self._push(digits, np.zeros_like(digits), _DIGIT_CDF, _DIGIT_LENGTH)

    def _push(
        self, places: Integers, rows: Integers, cdfs: list[list[int]], lengths: list[int]
    ) -> None:
        self._pushed += places.size
        offsets = [0] * len(lengths)
        for start in range(0, places.size, CHUNK):
            part = slice(start, start + CHUNK)
            self._coder.encode_with_indexes(
                places[part].tolist(), rows[part].tolist(), cdfs, lengths, offsets
            )


class Decoder:
    """Reads the symbols of a stream in the order in which they were pushed.

    Args:
        stream: untrusted bytes.
        symbols: how many symbols will be pulled in all, at most.

    Attributes:
        crc: as in :class:`Encoder`.

    Raises:
        CorruptedFileError: if the stream cannot have come from :class:`Encoder`.
    """

    def __init__(self, stream: bytes, symbols: int) -> None:
        state = int.from_bytes(stream[:8], "little")
        if len(stream) < 8 or len(stream) % 4 or not 2**31 <= state < 2**63:
            raise CorruptedFileError("the entropy-coded data does not begin like a rANS stream")
        self._stream = stream
        self._symbols_left = symbols
        self._escapes_left = 2 * len(stream)  # each costs at least one digit, half a byte
        digits = self._escapes_left * (1 + MAX_DIGITS)
        words = 4 + (17 * symbols + 5 * digits) // 32
        self._coder = RansDecoder()
        self._coder.set_stream(stream + bytes(4 * words))
        self._pulled: list[tuple[Integers, Integers, CdfTables]] = []
        self.crc = 0

    def pull(self, indexes: Integers, tables: CdfTables) -> Integers:
        """The next symbols, int64, shape (n,).

        Args:
            indexes: shape (n,), the row of ``tables`` that codes each symbol.
            tables: distributions.

        Raises:
            CorruptedFileError: if an impossible symbol comes out.
        """
        self._symbols_left -= indexes.size
        if self._symbols_left < 0:
            raise CodecError("more symbols asked for than announced")
        tails, offsets = tables.tails()[indexes], tables.offsets()[indexes]
        cdfs, lengths = tables.lists()
        symbols = self._pull(indexes, cdfs, lengths)
        escaped = symbols == tails
        if escaped.any():
            symbols[escaped] = self._pull_escapes(tails[escaped])
        symbols += offsets
        if int(np.abs(symbols).max(initial=0)) > MAX_SYMBOL:
            raise CorruptedFileError("the entropy-coded data holds an impossible symbol")
        self.crc = _crc(symbols, self.crc)
        self._pulled.append((symbols, indexes, tables))
        return symbols

    def finish(self) -> None:
        """Raises CorruptedFileError unless the stream is exactly what these symbols encode to."""
        encoder = Encoder()
        for symbols, indexes, tables in self._pulled:
            encoder.push(symbols, indexes, tables)
        if encoder.finish() != self._stream:
            raise CorruptedFileError("the entropy-coded data does not end where its symbols do")

    def _pull_escapes(self, tails: Integers) -> Integers:
        self._escapes_left -= tails.size
        if self._escapes_left < 0:
            raise CorruptedFileError("the entropy-coded data holds more than its bytes can")
        counts = self._pull(np.zeros_like(tails), _DIGIT_CDF, _DIGIT_LENGTH)
        if int(counts.max()) > MAX_DIGITS:
            raise CorruptedFileError("the entropy-coded data holds an impossible symbol")
        zeros = np.zeros(int(counts.sum()), np.int64)
        return _from_digits(counts, self._pull(zeros, _DIGIT_CDF, _DIGIT_LENGTH), tails)

    def _pull(self, rows: Integers, cdfs: list[list[int]], lengths: list[int]) -> Integers:
        offsets = [0] * len(lengths)
        out = np.empty(rows.size, np.int64)
        for start in range(0, rows.size, CHUNK):
            part = slice(start, start + CHUNK)
            out[part] = self._coder.decode_stream(rows[part].tolist(), cdfs, lengths, offsets)
        return out


def _crc(symbols: Integers, crc: int) -> int:
    return zlib.crc32(symbols.astype("<i4").tobytes(), crc)


def _to_digits(places: Integers, tails: Integers) -> tuple[Integers, Integers]:
    """Number of 4 bit digits of each escaped place, and all the digits, lowest first.

    Places beyond the tail become even numbers from 0, those below the table odd ones.
    """
    raw = np.where(places < 0, -2 * places - 1, 2 * (places - tails))
    digits = raw[:, None] >> np.arange(0, 4 * MAX_DIGITS, 4)
    used = digits > 0
    return used.sum(axis=1), (digits & 15)[used]


def _from_digits(counts: Integers, digits: Integers, tails: Integers) -> Integers:
    """Inverse of :func:`_to_digits`."""
    used = np.arange(MAX_DIGITS) < counts[:, None]
    table = np.zeros(used.shape, np.int64)
    table[used] = digits
    raw = (table << np.arange(0, 4 * MAX_DIGITS, 4)).sum(axis=1)
    return np.where(raw % 2 == 1, -(raw // 2) - 1, raw // 2 + tails)


def as_integers(values: Any) -> Integers:
    """A tensor of integers (any dtype, any device) as a flat int64 array."""
    return values.detach().flatten().to("cpu").numpy().astype(np.int64)
