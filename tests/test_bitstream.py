"""The container: its bytes, its limits, every kind of damage, and files written whole or not."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from compressai_gen.bitstream import FIELDS, Header, describe, pack, read_file, unpack, write_file
from compressai_gen.bitstream import files as files_module
from compressai_gen.bitstream.container import MAX_CHUNK, payload_crc
from compressai_gen.bitstream.files import check_writable
from compressai_gen.bitstream.header import header_size
from compressai_gen.errors import (
    BitstreamError,
    CodecError,
    CorruptedFileError,
    NotACgenFileError,
    OptionError,
    SizeLimitError,
    TruncatedFileError,
    UnsupportedVersionError,
)

HEADER = Header(
    fingerprint=bytes(range(6)),
    synthesis=b"\xab\xcd",
    height=512,
    width=768,
    symbols_crc=0xDEADBEEF,
    quality=2.5,
)
FULL = replace(HEADER, portable=False, seed=7, steps=10, scheduler=3, tau=0.2)
CRC_AT = 20


def sealed(data: bytes) -> bytes:
    """``data`` with its payload checksum made right, as an attacker would."""
    return data[:CRC_AT] + struct.pack(">I", payload_crc(data)) + data[CRC_AT + 4 :]


def test_the_bytes_of_a_file():
    assert pack(HEADER, [b"abc"]).hex() == (
        "4347454e" "01" "00" "000102030405" "abcd"  # CGEN, version, flags, fingerprint, synthesis
        "0200" "0300" "0280" "1673a141" "deadbeef"  # height, width, quality, the two checksums
        "000003" "616263"  # one chunk
    )  # fmt: skip


def test_one_chunk_costs_31_bytes_and_each_further_one_3():
    assert len(pack(HEADER, [b"x" * 100])) == 131
    assert len(pack(HEADER, [b"x" * 50, b"", b"x" * 50])) == 131 + 6


@pytest.mark.parametrize("header", [HEADER, FULL, replace(HEADER, quality=None)])
@pytest.mark.parametrize("chunks", [[b""], [b"abc"], [b"", b"a", b"bc" * 300]])
def test_round_trip(header: Header, chunks: list[bytes]):
    data = pack(header, chunks)
    assert unpack(data) == (header, chunks)
    assert len(data) == header.size + sum(3 + len(chunk) for chunk in chunks)


def test_size_of_the_header_follows_from_its_fields():
    assert HEADER.size == header_size(0) == 28
    assert FULL.size == 28 + 4 + 2 + 1 + 1
    assert {field.name for field in FIELDS if field.flag} == {"seed", "steps", "scheduler", "tau"}


def test_quality_is_kept_in_steps_of_a_256th():
    header, _ = unpack(pack(replace(HEADER, quality=8.99999), [b""]))
    assert header.quality == 9
    assert unpack(pack(replace(HEADER, quality=1 / 256), [b""]))[0].quality == 1 / 256


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fingerprint", b"short"),
        ("synthesis", "ab"),
        ("height", 0),
        ("width", 65536),
        ("width", 1.5),
        ("quality", -1),
        ("quality", 256),
        ("symbols_crc", 2**32),
        ("symbols_crc", None),
        ("seed", -1),
        ("steps", 0),
        ("scheduler", 256),
        ("tau", 1.01),
    ],
)
def test_a_header_refuses_what_its_field_cannot_hold(field: str, value: object):
    with pytest.raises(OptionError, match=field):
        replace(HEADER, **{field: value})


def test_describe_follows_the_declared_fields():
    assert list(describe(FULL)) == [
        "version",
        "profile",
        "fingerprint",
        "synthesis",
        "height",
        "width",
        "quality",
        "symbols_crc",
        "seed",
        "steps",
        "scheduler",
        "tau",
    ]
    assert "seed" not in describe(HEADER)


def test_pack_needs_a_chunk_that_fits():
    with pytest.raises(OptionError, match="at least one chunk"):
        pack(HEADER, [])
    with pytest.raises(OptionError, match="split it"):
        pack(HEADER, [bytes(MAX_CHUNK + 1)])
    assert unpack(pack(HEADER, [bytes(MAX_CHUNK)]))[1] == [bytes(MAX_CHUNK)]


@pytest.mark.parametrize("header", [HEADER, FULL])
def test_truncation_at_any_byte_is_recognised(header: Header):
    data = pack(header, [b"first chunk", b"second chunk"])
    for length in range(1, len(data)):
        with pytest.raises(TruncatedFileError):
            unpack(data[:length])


@pytest.mark.parametrize("header", [HEADER, FULL])
def test_a_flipped_bit_anywhere_is_recognised(header: Header):
    data = pack(header, [b"first chunk", b"second chunk"])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack(bytes(damaged))


def test_each_damage_has_its_own_error():
    data = pack(HEADER, [b"payload"])
    for other in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 100):
        with pytest.raises(NotACgenFileError):
            unpack(other)
    with pytest.raises(UnsupportedVersionError, match="format version 2"):
        unpack(sealed(data[:4] + b"\2" + data[5:]))
    with pytest.raises(UnsupportedVersionError, match="0x80"):
        unpack(sealed(data[:5] + b"\x80" + data[6:]))
    with pytest.raises(CorruptedFileError, match="checksum"):
        unpack(data[:5] + b"\x80" + data[6:])
    with pytest.raises(CorruptedFileError, match="checksum"):
        unpack(data[:-1] + b"?")
    with pytest.raises(CorruptedFileError, match="after the last chunk"):
        unpack(sealed(data + b"more"))
    with pytest.raises(CorruptedFileError, match="height=0"):
        unpack(sealed(data[:14] + b"\0\0" + data[16:]))


def test_an_absurd_size_is_refused_and_the_limit_can_be_moved():
    data = pack(replace(HEADER, height=65535, width=65535), [b""])
    with pytest.raises(SizeLimitError, match="--max-pixels"):
        unpack(data)
    assert unpack(data, max_pixels=2**32)[0].width == 65535
    with pytest.raises(SizeLimitError):
        unpack(pack(HEADER, [b""]), max_pixels=512 * 768 - 1)


# -- files --------------------------------------------------------------------------------------


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_and_read(tmp_path: Path):
    path = tmp_path / "a.cgen"
    write_file(path, b"one")
    write_file(path, b"two")
    assert read_file(path) == b"two"
    assert only(tmp_path) == ["a.cgen"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_link_stays_a_link(tmp_path: Path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CodecError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_full_disk_or_interruption_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error, caught
):
    path = tmp_path / "a.cgen"
    path.write_bytes(b"old")

    def fail(*_: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, function, fail)
        with pytest.raises(caught) as raised:
            write_file(path, b"new")
    if caught is CodecError:
        assert "No space left on device" in str(raised.value)
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == ["a.cgen"]


def test_a_disk_that_fills_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write, calls = os.write, []

    def short(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:3])

    monkeypatch.setattr(files_module.os, "write", short)
    with pytest.raises(CodecError, match="No space left"):
        write_file(tmp_path / "a.cgen", b"0123456789")
    assert calls == [10, 7, 4]
    assert only(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_the_full_device():
    with pytest.raises(CodecError, match="No space left"):
        write_file("/dev/full", b"data")
    assert Path("/dev/full").is_char_device()


def test_a_device_is_written_not_replaced():
    write_file(os.devnull, b"data")
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="this system names no descriptors")
def test_a_pipe_behind_a_link_is_written():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        with os.fdopen(writer, "wb"):
            check_writable(f"/dev/fd/{writer}")
            write_file(f"/dev/fd/{writer}", b"data")
        assert file.read() == b"data"


def test_read_only_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.cgen"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(CodecError, match="read-only"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    path.chmod(0o666)
    monkeypatch.setattr(files_module.os, "access", lambda name, _: name != tmp_path)
    for name in ("a.cgen", "b.cgen"):  # neither can be renamed into place
        with pytest.raises(CodecError, match=r"the folder .* is read-only"):
            check_writable(tmp_path / name)
    assert only(tmp_path) == ["a.cgen"]
    check_writable(os.devnull)


def test_impossible_targets_and_sources(tmp_path: Path):
    with pytest.raises(CodecError, match="does not exist"):
        write_file(tmp_path / "missing" / "a.cgen", b"")
    with pytest.raises(CodecError, match="is a folder"):
        write_file(tmp_path, b"")
    with pytest.raises(CodecError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(CodecError, match="No such file"):
        read_file(tmp_path / "missing.cgen")
