"""The header of a ``.cgen`` file, declared once.

``FIELDS`` is the format: writer, reader, size and ``cgen info`` walk that tuple, so they cannot
drift apart. All numbers are big-endian. The order on disk::

    magic version flags fingerprint synthesis height width quality payload_crc symbols_crc
    [seed] [steps] [scheduler] [tau]                      each present only if its flag is set
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from compressai_gen.errors import CorruptedFileError, OptionError, TruncatedFileError

MAGIC = b"CGEN"
VERSION = 1
FLOAT_HOST = 0x01  # flag: coded in host floating point, not portable between machines


@dataclass(frozen=True)
class Field:
    """One element of the header.

    Attributes:
        name: the attribute of `Header` that it stores.
        code: its ``struct`` code (big-endian).
        help: what it says, in a few words.
        flag: 0 if always present, otherwise the bit of ``flags`` that says it is.
        scale: reals are stored as ``round(scale * value)``; 0 for integers and bytes.
        absent: the stored integer that stands for None, or None if there is none.
        least: the smallest allowed value of an integer.
    """

    name: str
    code: str
    help: str
    flag: int = 0
    scale: int = 0
    absent: int | None = None
    least: int = 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return struct.calcsize(">" + self.code)

    @property
    def is_bytes(self) -> bool:
        return self.code.endswith("s")

    @property
    def most(self) -> int:
        """The largest integer that can be stored."""
        top = (1 << (8 * self.size)) - 1
        return top - 1 if self.absent == top else top

    def check(self, value: Any) -> None:
        """Raises `OptionError` if ``value`` cannot be stored in this field."""
        if value is None:
            if self.flag or self.absent is not None:
                return
            raise OptionError(f"header field {self.name} is required")
        if self.is_bytes:
            if not isinstance(value, bytes) or len(value) != self.size:
                raise OptionError(f"header field {self.name} is {self.size} bytes, not {value!r}")
            return
        kinds = (int, float) if self.scale else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise OptionError(f"header field {self.name} is a number, not {value!r}")
        if not self.least <= value * (self.scale or 1) <= self.most:
            low, high = self.least / (self.scale or 1), self.most / (self.scale or 1)
            raise OptionError(f"header field {self.name}={value} is not in {low:g}..{high:g}")

    def write(self, value: Any) -> bytes:
        """The field's bytes on disk."""
        self.check(value)
        if not self.is_bytes:
            value = self.absent if value is None else round(value * (self.scale or 1))
        return struct.pack(">" + self.code, value)

    def read(self, data: bytes) -> Any:
        """The value stored in exactly ``self.size`` bytes."""
        (value,) = struct.unpack(">" + self.code, data)
        if self.absent is not None and value == self.absent:
            return None
        return value / self.scale if self.scale else value


FIELDS = (
    Field("magic", "4s", "says that this is a .cgen file"),
    Field("version", "B", "version of the format"),
    Field("flags", "B", "profile, and which optional fields follow"),
    Field("fingerprint", "6s", "of everything that decoding the symbols depends on"),
    Field("synthesis", "2s", "short hash of the networks that make pixels; a mismatch warns"),
    Field("height", "H", "of the original, pixels", least=1),
    Field("width", "H", "of the original, pixels", least=1),
    Field("quality", "H", "rate point in steps of 1/256", scale=256, absent=0xFFFF),
    Field("payload_crc", "I", "CRC32 of all other bytes of the file"),
    Field("symbols_crc", "I", "CRC32 of the decoded symbols"),
    Field("seed", "I", "of the start noise", flag=0x02),
    Field("steps", "H", "sampling steps", flag=0x04, least=1),
    Field("scheduler", "B", "number of the sampling scheduler", flag=0x08),
    Field("tau", "B", "the sender's wish, 0 (generated) to 1 (faithful)", flag=0x10, scale=255),
)
DERIVED = ("magic", "version", "flags", "payload_crc")  # filled in by the writer
KNOWN_FLAGS = FLOAT_HOST | sum(field.flag for field in FIELDS)
FIXED_SIZE = sum(field.size for field in FIELDS if not field.flag)


@dataclass(frozen=True)
class Header:
    """What a ``.cgen`` file says about itself.

    Args:
        fingerprint: 6 bytes naming the integer tables and networks of the entropy path.
        synthesis: 2 bytes naming the networks that turn latents into pixels.
        height, width: of the original picture, pixels, 1 to 65535.
        symbols_crc: CRC32 of the symbols; 0 in the float-host profile, which has no integers
            to compare.
        quality: real rate point, stored in 1/256 steps; None where the codec has no such notion.
        portable: False marks the float-host profile: decodes for sure only where it was written.
        seed, steps, scheduler, tau: what else makes the output a function of the file; None
            takes no space.

    Raises:
        OptionError: a value does not fit its field.
    """

    fingerprint: bytes
    synthesis: bytes
    height: int
    width: int
    symbols_crc: int
    quality: float | None = None
    portable: bool = True
    seed: int | None = None
    steps: int | None = None
    scheduler: int | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        for field in FIELDS:
            if field.name not in DERIVED:
                field.check(getattr(self, field.name))

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def flags(self) -> int:
        """Profile and presence bits."""
        present = sum(f.flag for f in FIELDS if f.flag and getattr(self, f.name) is not None)
        return present | (0 if self.portable else FLOAT_HOST)

    @property
    def size(self) -> int:
        """Bytes on disk, chunks not included."""
        return header_size(self.flags)


def header_size(flags: int) -> int:
    """Bytes of a header with these flags."""
    return sum(field.size for field in FIELDS if not field.flag or field.flag & flags)


def write_header(header: Header, payload_crc: int) -> bytes:
    """The header's bytes."""
    derived = {
        "magic": MAGIC,
        "version": VERSION,
        "flags": header.flags,
        "payload_crc": payload_crc,
    }
    parts = []
    for field in FIELDS:
        if not field.flag or field.flag & header.flags:
            value = derived.get(field.name)
            parts.append(field.write(getattr(header, field.name) if value is None else value))
    return b"".join(parts)


def read_fields(data: bytes, flags: int) -> dict[str, Any]:
    """Values by field name from the start of ``data``, without judging them.

    Raises:
        TruncatedFileError: the data end before the header does.
    """
    if len(data) < header_size(flags):
        raise TruncatedFileError(
            f"the file ends inside its header: {len(data)} bytes of {header_size(flags)}"
        )
    values, position = {}, 0
    for field in FIELDS:
        if not field.flag or field.flag & flags:
            values[field.name] = field.read(data[position : position + field.size])
            position += field.size
    return values


def build_header(values: dict[str, Any]) -> Header:
    """A validated `Header` from the values of `read_fields`.

    Raises:
        CorruptedFileError: a value is impossible.
    """
    kept = {name: value for name, value in values.items() if name not in DERIVED}
    try:
        return Header(portable=not values["flags"] & FLOAT_HOST, **kept)
    except OptionError as error:
        raise CorruptedFileError(f"impossible header: {error}") from None


def describe(header: Header) -> dict[str, Any]:
    """The header's fields as JSON-able values, in the order of the file; absent ones left out."""
    told: dict[str, Any] = {"version": VERSION}
    told["profile"] = "portable" if header.portable else "float32-host"
    for field in FIELDS:
        value = None if field.name in DERIVED else getattr(header, field.name)
        if value is not None:
            told[field.name] = value.hex() if isinstance(value, bytes) else value
    return told


def codec_fingerprint(name: str) -> bytes:
    """6 bytes for the files of a codec that depends on no checkpoint."""
    return hashlib.sha256(f"compressai-gen codec {name}".encode()).digest()[:6]
