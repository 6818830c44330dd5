from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models.base import get_scale_table

from compressai_gen.entropy.range_coder import MAX_SYMBOL, Decoder, Encoder
from compressai_gen.entropy.tables import CdfTables, scale_indexes, scale_thresholds
from compressai_gen.errors import CheckpointError, CodecError, CorruptedFileError


@pytest.fixture(scope="module")
def gaussian():
    model = GaussianConditional(None)
    model.update_scale_table(get_scale_table())
    return model


@pytest.fixture(scope="module")
def tables(gaussian):
    return CdfTables.from_entropy_model(gaussian)


def draw(count, seed=0, spread=1.0):
    """Indexes, and symbols that are ``spread`` times as wide as their distributions."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, 64, count)
    scales = np.array(get_scale_table())[indexes]
    symbols = np.rint(rng.standard_normal(count) * scales * spread)
    return symbols.clip(-MAX_SYMBOL, MAX_SYMBOL).astype(np.int64), indexes


def encode(tables, *pushes):
    encoder = Encoder()
    for symbols, indexes in pushes:
        encoder.push(symbols, indexes, tables)
    return encoder.finish(), encoder.crc


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 100.0])
def test_several_pushes_come_back(tables, spread):
    pushes = [draw(n, seed=n, spread=spread) for n in (5000, 1, 0, 777)]
    string, crc = encode(tables, *pushes)
    decoder = Decoder(string, 5778)
    for symbols, indexes in pushes:
        assert (decoder.pull(indexes, tables) == symbols).all()
    decoder.finish()
    every = np.concatenate([symbols for symbols, _ in pushes]).astype("<i4")
    assert decoder.crc == crc == zlib.crc32(every.tobytes())


def test_symbols_far_outside_the_table_come_back(tables):
    symbols = np.array([MAX_SYMBOL, -MAX_SYMBOL, 0, 1, -1, 9, -9, 10_000, -1566, 1566, 1567])
    for row in (0, 30, 63):
        indexes = np.full_like(symbols, row)
        string, _ = encode(tables, (symbols, indexes))
        assert (Decoder(string, symbols.size).pull(indexes, tables) == symbols).all()


def test_length_is_that_of_compressai(gaussian, tables):
    symbols, indexes = draw(50_000)
    (theirs,) = gaussian.compress(
        torch.tensor(symbols)[None, None].float(), torch.tensor(indexes)[None, None]
    )
    ours, _ = encode(tables, (symbols, indexes))
    assert abs(len(ours) - len(theirs)) <= 4


def plain_rans(string, rows, cdfs):
    """The coder in Python, from its definition: 64 bit state, 32 bit words, 16 bit frequencies."""
    words = [int.from_bytes(string[i : i + 4], "little") for i in range(0, len(string), 4)]
    state, place, out = words[0] | words[1] << 32, 2, []
    for row in rows:
        low, cdf = state & 0xFFFF, cdfs[row]
        symbol = next(i for i, end in enumerate(cdf[1:]) if end > low)
        state = (cdf[symbol + 1] - cdf[symbol]) * (state >> 16) + low - cdf[symbol]
        if state < 2**31:
            state, place = state << 32 | words[place], place + 1
        out.append(symbol)
    assert state == 2**31
    assert place == len(words)
    return out


def test_golden_bytes():
    tables = CdfTables(2, 9)
    tables.cdf.copy_(torch.tensor([0, 9000, 56000, 65000, 65536, 0, 65000, 65500, 65536]))
    tables.length.copy_(torch.tensor([5, 4]))
    tables.offset.copy_(torch.tensor([-1, 0]))
    symbols = np.array([0, 1, -1, 2, 0, 0, 40, -3, 16383, 0, -16383, 1])
    string, crc = encode(tables, (symbols, np.arange(12) % 2))
    assert string.hex() == "ab4861d32aa3640af0fff8bf7f2041c400f07ffb"
    assert crc == 0x2AE9F943
    assert (read_all(string, np.arange(12) % 2, tables) == symbols).all()
    # 12 places, of which 5 are tails; for each of those a number of digits; then the digits
    digits = list(range(0, 65537, 4096))
    rows = [*([0, 1] * 6), *([2] * 16)]
    assert plain_rans(string, rows, [*tables.lists()[0], digits]) == [
        1, 1, 0, 2, 1, 0, 3, 2, 3, 0, 3, 1,
        *(0, 2, 1, 4, 4),
        *(0xC, 0x4), *(0x5,), *(0xA, 0xF, 0xF, 0x7), *(0xB, 0xF, 0xF, 0x7),
    ]  # fmt: skip


def test_chunks_change_nothing(tables, monkeypatch):
    pushes = draw(5000, spread=3.0)
    string, _ = encode(tables, pushes)
    monkeypatch.setattr("compressai_gen.entropy.range_coder.CHUNK", 100)
    assert encode(tables, pushes)[0] == string
    assert (Decoder(string, 5000).pull(pushes[1], tables) == pushes[0]).all()


def test_too_few_symbols_are_refused(tables):
    with pytest.raises(CodecError, match="at least 4"):
        encode(tables, draw(3))


def read_all(string, indexes, tables):
    decoder = Decoder(string, indexes.size)
    symbols = decoder.pull(indexes, tables)
    decoder.finish()
    return symbols


def test_nothing_but_the_encoders_own_stream_is_accepted(tables):
    symbols, indexes = draw(400, spread=2.0)
    string, _ = encode(tables, (symbols, indexes))
    assert (read_all(string, indexes, tables) == symbols).all()
    rng = random.Random(0)
    damaged = [string[:n] for n in range(len(string))]
    damaged += [string + bytes(4), string + string, string + b"\1\2\3", bytes(4) + string]
    for _ in range(2000):
        place, bit = rng.randrange(len(string)), 1 << rng.randrange(8)
        damaged.append(string[:place] + bytes([string[place] ^ bit]) + string[place + 1 :])
    for other in damaged:
        try:
            read = read_all(other, indexes, tables)
        except CorruptedFileError:
            continue
        assert (read != symbols).any()  # a flipped bit can only be a stream of other symbols


@pytest.mark.parametrize("row", [0, 20, 63])
def test_hostile_bytes_never_crash(tables, row):
    rng = random.Random(row)
    indexes = np.full(3000, row)
    start = (2**62 - 1).to_bytes(8, "little")
    for tail in (b"\xff" * 400, b"\x00" * 400, b"\xff\x00" * 200, b""):
        for begin in (start, (2**31).to_bytes(8, "little"), b"\xff" * 7 + b"\x7f"):
            with pytest.raises(CorruptedFileError):
                read_all(begin + tail, indexes, tables)
    for _ in range(300):
        noise = rng.randbytes(4 * rng.randrange(60))
        with pytest.raises(CorruptedFileError):
            read_all(noise, indexes, tables)


def test_asking_for_more_than_announced_is_refused(tables):
    symbols, indexes = draw(100)
    decoder = Decoder(encode(tables, (symbols, indexes))[0], 99)
    with pytest.raises(CodecError, match="announced"):
        decoder.pull(indexes, tables)


def test_index_is_that_of_compressai(gaussian):
    thresholds = scale_thresholds(gaussian)
    assert thresholds.shape == (63,)
    scales = torch.arange(-10, 300 * 4096, 7).double()
    theirs = gaussian.build_indexes((scales / 4096).float())
    near = (scales[:, None] - thresholds).abs().min(dim=1).values <= 1  # float32 may not resolve it
    ours = scale_indexes(scales, thresholds)
    assert torch.equal(ours[~near], theirs.long()[~near])
    assert ours.min() == theirs.min()
    assert ours.max() == 63


def test_a_scale_on_a_threshold_takes_the_lower_table():
    model = GaussianConditional([0.25, 0.5, 1.0, 2.0], scale_bound=0.4)
    thresholds = scale_thresholds(model)
    scales = torch.tensor([0, 1024, 1025, 2048, 2049, 4096, 4097, 9000]).double()
    theirs = model.build_indexes((scales / 4096).float())
    assert scale_indexes(scales, thresholds).tolist() == theirs.tolist() == [1, 1, 1, 1, 2, 2, 3, 3]


def test_tables_are_copied_not_computed():
    torch.manual_seed(0)
    bottleneck = EntropyBottleneck(5)
    with pytest.raises(CheckpointError, match="update"):
        CdfTables.from_entropy_model(bottleneck)
    bottleneck.update()
    tables = CdfTables.from_entropy_model(bottleneck)
    rows, lengths = tables.lists()
    for row, length, theirs in zip(rows, lengths, bottleneck.quantized_cdf.tolist(), strict=True):
        assert row == [*theirs[: length - 1], 65536]
    again = CdfTables.from_config(tables.config())
    with pytest.raises(CheckpointError, match="cumulative"):
        again.lists()
    again.load_state_dict(tables.state_dict())
    assert again.lists() == tables.lists()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("cdf", 0, 1), ("cdf", 3, 0), ("cdf", -1, 65535), ("length", 0, 4000), ("length", 0, 1),
     ("length", 1, -5), ("offset", 3, 2**30)],
)  # fmt: skip
def test_damaged_tables_are_refused(tables, name, place, value):
    state = {key: tensor.clone() for key, tensor in tables.state_dict().items()}
    state[name][place] = value
    damaged = CdfTables.from_config(tables.config())
    damaged.load_state_dict(state)
    with pytest.raises(CheckpointError, match="cumulative"):
        damaged.lists()
