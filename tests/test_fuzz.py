"""Damaged and hostile files: always a clear error, never a crash, a hang or a large allocation."""

from __future__ import annotations

import json
import random
import struct
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from toys import DEFAULT, exported, pixels

from compressai_gen.bitstream import Header, pack, unpack
from compressai_gen.bitstream.container import payload_crc
from compressai_gen.bitstream.header import FIELDS
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import BitstreamError, CheckpointError
from compressai_gen.notes import CodecNote

DAMAGED = 24_000
HOSTILE = 400
LIMIT = 150e6  # bytes a hostile file may make the decoder of a small model allocate
OFFSETS = {f.name: sum(g.size for g in FIELDS[:i]) for i, f in enumerate(FIELDS)}


def container() -> bytes:
    header = Header(b"abcdef", b"gh", 300, 400, 0x12345678, quality=3, seed=5, tau=0.25)
    chunks = [bytes(random.Random(n).randbytes(200 * n)) for n in range(4)]
    return pack(header, chunks)


def damaged(data: bytes, number: int, rng: random.Random) -> bytes:
    """A truncation, flipped bits, or both; never the file itself."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5)) if number % 3 else 0):
        # half of the damage in the header and the lengths, where it is most dangerous
        place = rng.randrange(60) if rng.random() < 0.5 else rng.randrange(len(data))
        changed[place] ^= 1 << rng.randrange(8)
    if number % 3 == 0 or rng.random() < 0.2:
        changed = changed[: rng.randrange(len(changed))]
    return bytes(changed)


def test_damaged_files_through_the_container():
    rng, data, seen = random.Random(0), container(), set()
    tracemalloc.start()
    start = time.perf_counter()
    for number in range(DAMAGED):
        bad = damaged(data, number, rng)
        if bad == data:
            continue
        with pytest.raises(BitstreamError) as raised:
            unpack(bad)
        seen.add(raised.type.__name__)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6
    assert time.perf_counter() - start < 60
    assert {"NotACgenFileError", "TruncatedFileError", "CorruptedFileError"} <= seen


def sealed(data: bytes) -> bytes:
    """``data`` with its payload checksum made right, as an attacker would."""
    at = OFFSETS["payload_crc"]
    return data[:at] + struct.pack(">I", payload_crc(data)) + data[at + 4 :]


def attacks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Without end: files with right checksums that no encoder wrote."""
    header, (string,) = unpack(data)
    while True:
        noise = bytearray(string)
        for _ in range(rng.choice((1, 4, 30))):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        yield pack(header, [bytes(noise)])
        yield pack(header, [string[: rng.randrange(len(string))]])
        yield pack(header, [string + rng.randbytes(rng.randrange(1, 50))])
        yield pack(header, [rng.randbytes(rng.choice((0, 3, 4, 5, 8, 500)))])
        yield pack(header, [bytes([rng.choice((0, 255))]) * rng.choice((4, 8, 300))])
        yield pack(header, [string[:7], string[7:], rng.randbytes(2)])
        for name in ("height", "width", "quality"):
            yield overwritten(data, name, struct.pack(">H", int(2 ** rng.uniform(0, 16)) - 1))
        yield overwritten(data, "flags", bytes([rng.randrange(256)]))
        side = struct.pack(">HH", 8192, 8192)  # as large as is allowed at all
        yield sealed(data[: OFFSETS["height"]] + side + data[OFFSETS["height"] + 4 :])


def overwritten(data: bytes, name: str, value: bytes) -> bytes:
    at = OFFSETS[name]
    return sealed(data[:at] + value + data[at + len(value) :])


def host_attacks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The same for a float-host file: its layout and its several strings."""
    header, chunks = unpack(data)
    layout = chunks[0]
    run = b"\xff" * 7 + b"\x7f" + b"\xff" * 2**21  # announces 15 times as many digits as it has
    large = replace(header, height=4096, width=4096)
    while True:
        place = rng.randrange(1, len(chunks))
        yield pack(header, [*chunks[:place], run, *chunks[place + 1 :]])
        yield pack(large, [b"", *[bytes(8)] * 100])
        for string in (rng.randbytes(rng.choice((0, 3, 8, 64))), b"", bytes(8), b"\xff" * 400):
            place = rng.randrange(1, len(chunks))
            yield pack(header, [*chunks[:place], string, *chunks[place + 1 :]])
        yield pack(header, [layout.replace(b"2", b"99999999"), *chunks[1:]])
        yield pack(header, [layout.replace(b"[16,", b"[99999999,"), *chunks[1:]])
        yield pack(header, [layout.replace(b"null", b"[null]"), *chunks[1:]])
        yield pack(header, [b"[" * 10**5, *chunks[1:]])
        yield pack(header, [bytes([rng.randrange(256)]) + layout[1:], *chunks[1:]])
        yield pack(header, [layout])


def hostile_run(name: str = DEFAULT, count: int = HOSTILE) -> dict[str, int]:
    """Decodes hostile files with a small codec; returns how often each error came."""
    codec, rng = ModelCodec(exported(name), name), random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CodecNote)
        data = codec.compress(pixels(100, 90))
    files = (attacks if codec.portable else host_attacks)(data, rng)
    codec.decompress(data)
    seen: dict[str, int] = {}
    before, slowest = high_water(), 0.0
    for _, bad in zip(range(count), files, strict=False):
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CodecNote)
                codec.decompress(bad)
            name = "decoded"
        except (BitstreamError, CheckpointError) as error:
            name = type(error).__name__
        seen[name] = seen.get(name, 0) + 1
        slowest = max(slowest, time.perf_counter() - start)
    assert high_water() - before < LIMIT, f"{(high_water() - before) / 1e6:.0f} MB more"
    assert slowest < 5, f"{slowest:.1f} s for one file"
    return seen


def high_water() -> float:
    """The most memory this process ever used, bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.skipif(sys.platform == "win32", reason="there is no peak memory to read on Windows")
def test_hostile_files_through_the_decoder(run_python: Callable[..., str]):
    """In a process of its own, because peak memory never goes down again."""
    told = run_python(
        "import json, test_fuzz as t; print(json.dumps(t.hostile_run()));"
        "print(json.dumps(t.hostile_run('elic2022-official', 60)))",
        extra_path=str(Path(__file__).parent),
    )
    seen, float_host = map(json.loads, told.splitlines()[-2:])
    assert float_host["CorruptedFileError"] > 25
    assert seen["CorruptedFileError"] > HOSTILE / 2
    assert seen.get("decoded", 0) < HOSTILE / 10  # a size that pads to the same, a harmless flag
