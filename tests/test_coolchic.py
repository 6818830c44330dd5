"""COOL-CHIC: published sizes, laws in integers, kernels and their Python twins."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from compressai_gen.errors import CodecError, CorruptedFileError
from compressai_gen_plugins.overfitted import arm_coding, arm_tables, fronts, kernels
from compressai_gen_plugins.overfitted.coolchic import (
    Arm,
    CoolChic,
    bits,
    grid_sizes,
    parameters_sent,
)
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2, multiplications, offsets
from compressai_gen_plugins.overfitted.kernels import FRACTIONS, PRECISION, REACH

VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)


def random_arm(version, seed=0, spread=0.15):
    """A model whose weights are on the grid of the integers."""
    torch.manual_seed(seed)
    arm = Arm(version)
    for layer in arm.layers:
        layer.weight.data = (torch.randn(layer.weight.shape) * spread * 256).round() / 256
        layer.bias.data = (torch.randn(layer.bias.shape) * spread * 65536).round() / 65536
    return arm


def laplace(shape, scale, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.laplace(0, scale, shape).round()).long()


def test_the_published_sizes():
    for version, arm, synthesis, kernel, products in (
        (V1, 338, 291, 0, 680),
        (V2, 1250, 611, 64, 2162),
    ):
        network = CoolChic(version, 8, 8)
        assert sum(p.numel() for p in network.arm.parameters()) == arm
        assert sum(p.numel() for p in network.synthesis.parameters()) == synthesis
        assert parameters_sent(network) == arm + synthesis + kernel
        assert multiplications(version) == pytest.approx(products)
    assert grid_sizes(512, 768)[-1] == (8, 12)
    assert len(offsets(2)) == 12
    assert len(offsets(3)) == 24


@pytest.mark.parametrize("seed", range(4))
def test_the_three_colours_of_v2_start_open(seed):
    """All of the picture goes through them, and what is off has no gradient."""
    torch.manual_seed(seed)
    network = CoolChic(V2, 16, 24)
    latents = [torch.randn(1, 1, *size) for size in grid_sizes(16, 24)]
    weights = network.synthesis.weights()
    h = network.synthesis.pixels(network.upsampled(latents)[0], *weights)
    assert h.shape == (3, 16, 24)
    assert float(h.detach().min()) > 0.3
    assert float((network.picture(latents).detach() - 0.5).abs().max()) < 0.2


@VERSIONS
def test_the_causal_convolution_is_the_model_at_every_latent(version):
    arm, grid = random_arm(version), torch.randn(1, 1, 6, 7)
    mu, sharpness = arm(grid)
    padded = F.pad(grid, (version.radius,) * 4)[0, 0]
    for y, x in ((0, 0), (2, 4), (5, 6)):
        h = torch.stack([padded[y + version.radius + i, x + version.radius + j]
                         for i, j in offsets(version.radius)])  # fmt: skip
        for number, layer in enumerate(arm.layers):
            h = F.relu(layer(h) + h) if number < 2 else layer(h)
        torch.testing.assert_close(torch.stack([mu[0, 0, y, x], sharpness[0, 0, y, x]]), h)
    assert kernels.BITS == 8


@VERSIONS
def test_the_first_upsampling_is_bicubic(version):
    network = CoolChic(version, 64, 64)
    for size in ((9, 11), (1, 1), (1, 4)):
        x = torch.randn(1, 3, *size)
        expected = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        torch.testing.assert_close(network.enlarged(x), expected, atol=1e-5, rtol=0)
    assert network.upsampled(network.latents(torch.round)).shape == (1, 7, 64, 64)


def law(symbol, mean, spread):
    """Laplace's mass around a symbol, and beside it the tail."""
    below, above = ((symbol + s - mean) / spread for s in (-0.5, 0.5))
    cdf = [0.5 * math.exp(v) if v < 0 else 1 - 0.5 * math.exp(-v) for v in (below, above)]
    return (1 - math.pi / 512) * (cdf[1] - cdf[0]) + 1 / 512 / (1 + (symbol - mean) ** 2)


def test_the_law_is_laplaces_with_a_tail():
    for value, mean, sharpness in ((2.0, 0.5, -1.0), (-7.0, 0.3, 2.0), (500.0, 0.0, 9.0)):
        expected = -math.log2(law(value, mean, math.exp(-sharpness / 2)))
        got = bits(*map(torch.tensor, (value, mean, sharpness)))
        assert float(got) == pytest.approx(expected, rel=1e-4)
    for sharpness in (-2.0, 13.0):
        total = bits(torch.arange(-2000.0, 2001), torch.tensor(0.3), torch.tensor(sharpness))
        assert float((2**-total).sum()) == pytest.approx(1, abs=1e-4)
    far = torch.tensor(40.0, requires_grad=True)
    bits(far, torch.tensor(0.0), torch.tensor(13.0)).backward()
    assert far.grad > 0.05  # back to the mean


def test_the_tables_are_the_law_in_integers():
    rows = arm_tables.tables()
    assert (np.diff(rows) > 0).all()
    assert (rows[:, 0] == 0).all()
    assert (rows[:, -1] == 2**PRECISION).all()
    for scale, fraction in ((10, 3), (70, 8), (100, 15), (127, 0)):
        spread = math.exp(-7 + scale * 12 / 127)
        mean = fraction / 16 - 0.5
        masses = np.diff(rows[scale * 16 + fraction]) / 2**PRECISION
        for symbol in (-50, -3, -1, 0, 1, 2, 100):
            got, expected = masses[symbol + REACH], law(symbol, mean, spread)
            assert got == pytest.approx(expected, rel=1e-3, abs=3e-6)
    import hashlib

    for tails, expected in TABLES.items():
        digest = hashlib.sha256(arm_tables.tables(tails).astype("<i4").tobytes()).hexdigest()
        assert digest[:16] == expected, "files written with other tables could not be read any more"


TABLES = {False: "c33deb237ddc083d", True: "0ecfc649967dac62"}


@VERSIONS
@pytest.mark.parametrize("scale", [0.02, 0.5, 6.0])
def test_a_grid_comes_back_from_its_bytes(version, scale):
    arm = arm_coding.integer_arm(random_arm(version))
    for shape in ((1, 1), (1, 9), (13, 1), (20, 31)):
        grid = laplace(shape, scale)
        data, sent = arm_coding.encode(grid, arm)
        assert torch.equal(sent, grid)
        assert torch.equal(arm_coding.decode(data, *shape, arm), grid)
        assert bool(grid.any()) == bool(data)


@VERSIONS
def test_the_bytes_are_as_many_as_estimated(version):
    arm = random_arm(version, spread=0.05)
    grid = laplace((60, 80), 1.0)
    data, _ = arm_coding.encode(grid, arm_coding.integer_arm(arm))
    real = grid.float()[None, None]
    estimate = float(bits(real, *arm(real)).sum()) / 8
    assert abs(len(data) - estimate) < 0.005 * estimate + 3


@VERSIONS
def test_with_and_without_a_compiler_the_bytes_are_the_same(version, monkeypatch):
    pytest.importorskip("numba")
    arm = arm_coding.integer_arm(random_arm(version))
    grids = [laplace(shape, scale) for shape in ((1, 1), (9, 1), (1, 30), (23, 17))
             for scale in (0.3, 4.0, 900.0)]  # fmt: skip
    compiled = [arm_coding.encode(grid, arm) for grid in grids]
    monkeypatch.setattr(kernels, "njit", None)
    for grid, (data, sent) in zip(grids, compiled, strict=True):
        plain, other = arm_coding.encode(grid, arm)
        assert plain == data
        assert torch.equal(other, sent)
        assert torch.equal(arm_coding.decode(data, *grid.shape, arm), sent)


def test_a_front_depends_on_earlier_ones_alone():
    for radius in (2, 3):
        seen = np.zeros((9, 14), bool)
        for y, x in fronts.fronts(9, 14, radius):
            for i, j in offsets(radius):
                rows, columns = y + i, x + j
                inside = (rows >= 0) & (columns >= 0) & (columns < 14)
                assert seen[rows[inside], columns[inside]].all()
            seen[y, x] = True
        assert seen.all()


def test_far_latents_are_moved_to_the_end_of_their_law():
    arm = arm_coding.integer_arm(random_arm(V1, spread=0.0))
    grid = torch.tensor([[0, 5000, -3], [900, 0, 1]])
    data, sent = arm_coding.encode(grid, arm)
    assert torch.equal(sent, torch.tensor([[0, 127, -3], [127, 0, 1]]))
    assert torch.equal(arm_coding.decode(data, 2, 3, arm), sent)


def test_weights_out_of_range_are_refused():
    arm = random_arm(V1)
    arm.layers[1].weight.data[0, 0] = float("nan")
    with pytest.raises(CodecError, match="out of range"):
        arm_coding.integer_arm(arm)


def flat(sharpness: float, mean: float = 0.0) -> Arm:
    """A model with one law everywhere."""
    arm = Arm(V1)
    with torch.no_grad():
        for layer in arm.layers:
            layer.weight.zero_()
        arm.layers[-1].bias.copy_(torch.tensor([mean, sharpness]))
    return arm


@pytest.mark.parametrize("with_compiler", [True, False])
def test_bytes_that_no_encoder_writes_are_refused(with_compiler, monkeypatch):
    if with_compiler:
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(kernels, "njit", None)
    arm = arm_coding.integer_arm(flat(-7.28))
    for tail in (b"\x7f" * 20, bytes(range(200)), b"\xff" * 60):
        with pytest.raises(CorruptedFileError, match="none that an encoder writes"):
            arm_coding.decode(b"\xff" * 8 + tail, 6, 8, arm)


def test_hostile_models_and_bytes_are_read_alike_without_a_compiler(monkeypatch):
    """Also at the limits, where sums are largest: neither integers nor float64 may be left."""
    pytest.importorskip("numba")
    generator, found = random.Random(0), {True: [], False: []}
    models, data = [], []
    for number in range(60):
        arm = random_arm(V2, spread=0.3)
        with torch.no_grad():
            for parameter in arm.parameters() if number % 2 else ():
                parameter.copy_(torch.rand(parameter.shape).mul(2).sub(1).sign() * 4094)
        models.append(arm_coding.integer_arm(arm))
        ones = b"\xff" * generator.choice((0, 5, 6, 7, 20))
        data.append(ones + generator.randbytes(generator.choice((1, 30))) + b"\x01")
    for compiled, grids in found.items():
        if not compiled:
            monkeypatch.setattr(kernels, "njit", None)
        for model, string in zip(models, data, strict=True):
            try:
                grids.append(arm_coding.decode(string, 9, 11, model).tolist())
            except CorruptedFileError as error:
                grids.append(str(error))
    assert found[True] == found[False]
    assert any(isinstance(grid, list) and abs(max(map(max, grid))) > 2**15 for grid in found[True])


@VERSIONS
def test_the_mean_of_a_table_is_the_nearest(version):
    arm = random_arm(version, spread=0.4)
    grid = laplace((40, 50), 2.0)
    integers, radius = arm_coding.integer_arm(arm), version.radius
    padded = np.zeros((40 + radius, 50 + 2 * radius), np.int64)
    padded[radius:, radius:-radius] = grid.numpy()
    places = tuple(place.ravel() for place in np.mgrid[:40, :50])
    rows, whole = fronts.FrontLaw(padded, radius, integers.places, integers.model)(places)
    fraction = np.array(rows) % FRACTIONS - FRACTIONS // 2
    mean = arm(grid.float()[None, None])[0].detach().numpy().ravel()
    missed = np.array(whole) + fraction / FRACTIONS - mean
    assert np.abs(missed).max() < 0.5 / FRACTIONS + 0.02  # the integers' own rounding
    assert abs(missed.mean()) < 0.003
