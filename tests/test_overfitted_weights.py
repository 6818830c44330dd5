"""Weights of overfitted networks in a file: what comes back, how many bits, hostile bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compressai_gen.errors import CorruptedFileError
from compressai_gen_plugins.overfitted import weights


def test_weights_come_back_as_their_rounded_selves():
    torch.manual_seed(0)
    tensors = [torch.randn(40, 30) * 0.1, torch.zeros(7), torch.rand(5) * 1e-3, torch.ones(1)]
    side, stream, crc = weights.pack_tensors(tensors)
    back, other = weights.unpack_tensors(side, stream, [t.shape for t in tensors])
    assert crc == other
    for tensor, got in zip(tensors, back, strict=True):
        levels, bound = weights.quantised(tensor)
        assert torch.equal(got, weights.dequantised(levels, bound))
        assert (got - tensor).abs().max() <= 0.5001 * bound / weights.LEVELS
        assert np.float16(bound) == bound
    assert len(side) == 3 * len(tensors)
    assert len(stream) < 40 * 30  # less than eight bits a weight


def test_the_tables_are_distributions():
    cdf, lengths = weights.tables().cdf, weights.tables().length.tolist()
    for row in cdf.split(lengths):
        assert (row.diff() > 0).all()
        assert (row[0], row[-1]) == (0, 2**16)
    middle = cdf[: 63 * 257].view(63, 257).diff(dim=1)[:, weights.LEVELS]
    assert (middle[:-1] > middle[1:]).all()
    assert lengths[63:] == [2**shift + 2 for shift in weights.SHIFTS[1:]]


@pytest.mark.parametrize("scale", [0.3, 5, 60, 400, 3000])
def test_numbers_of_any_width_take_about_their_entropy(scale):
    levels = np.random.default_rng(0).laplace(0, scale, 4000).round().clip(-(2**14) + 1, 2**14 - 1)
    numbers, stream, crc = weights.pack_levels([torch.from_numpy(levels)])
    (back,), other = weights.unpack_levels(numbers, stream, [(40, 100)])
    assert crc == other
    assert np.array_equal(back.flatten().numpy(), levels)
    mean = np.abs(levels).mean()
    ratio = (np.sqrt(1 + mean**2) - 1) / mean  # of the likeliest two-sided geometric law
    law = np.log2((1 + ratio) / (1 - ratio)) - mean * np.log2(ratio)
    assert 8 * len(stream) / levels.size < law + 0.12


def test_the_cheapest_distribution_is_chosen():
    for scale in (0.3, 5, 60, 400):
        levels = np.random.default_rng(0).laplace(0, scale, 4000).round().astype(np.int64)
        sizes = [len(stream_of(levels, number)) for number in range(252)]
        assert len(stream_of(levels, weights.cheapest(levels))) <= min(sizes) + 4


def stream_of(levels, number):
    """Coded with this distribution."""
    encoder = weights.Encoder()
    shift, rows = weights.rows_for(number, levels.size)
    for symbols, own in zip(weights.split(levels, shift), rows, strict=False):
        encoder.push(symbols, own, weights.tables())
    return encoder.finish()


@pytest.mark.parametrize("shift", weights.SHIFTS)
def test_splitting_and_joining(shift):
    levels = np.arange(-(2**14) + 1, 2**14)
    high, low = weights.split(levels, shift)
    assert np.array_equal(weights.joined(high, low, shift), levels)
    assert (np.abs(levels - (high << shift)) <= 2**shift / 2).all()
    for wrong in ((2**14, 0), (-(2**14), 0), (0, 2**shift), (0, -1)):
        with pytest.raises(CorruptedFileError, match="out of range"):
            weights.joined(*np.array(wrong)[:, None], shift)


def test_hostile_bytes_are_refused():
    levels = torch.from_numpy(np.random.default_rng(0).laplace(0, 90, 200).round())
    numbers, stream, _ = weights.pack_levels([levels, levels])
    shapes = [levels.shape] * 2
    generator, refused = np.random.default_rng(1), 0
    for trial in range(300):
        damaged = bytearray(numbers + stream)
        for _ in range(1 + trial % 3):
            damaged[generator.integers(len(damaged))] = generator.integers(256)
        try:
            back, _ = weights.unpack_levels(bytes(damaged[:2]), bytes(damaged[2:]), shapes)
        except CorruptedFileError:
            refused += 1
        else:
            assert max(int(tensor.abs().max()) for tensor in back) < 2**14
    assert refused > 200
    with pytest.raises(CorruptedFileError, match="impossible distributions"):
        weights.unpack_levels(bytes([252, 0]), stream, shapes)
