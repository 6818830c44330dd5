"""COOL-CHIC: published sizes, laws in integers, kernels and their Python twins, fits, files."""

from __future__ import annotations

import contextlib
import json
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from skimage import data as photographs
from test_fuzz import damaged

import compressai_gen  # noqa: F401  (fills the zoo)
from compressai_gen import codec_for
from compressai_gen.bitstream import Header, codec_fingerprint, pack, unpack
from compressai_gen.codec.rate_control import reach_bpp
from compressai_gen.errors import BitstreamError, CodecError, OptionError
from compressai_gen_plugins.overfitted import (
    arm_coding,
    arm_tables,
    coolchic_files,
    fronts,
    kernels,
)
from compressai_gen_plugins.overfitted.codec import CoolChicV2Codec
from compressai_gen_plugins.overfitted.coolchic import (
    V1,
    V2,
    Arm,
    CoolChic,
    bits,
    grid_sizes,
    multiplications,
    offsets,
    parameters_sent,
)
from compressai_gen_plugins.overfitted.coolchic_cost import loss_of
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting
from compressai_gen_plugins.overfitted.coolchic_fitting import fit as fit_all
from compressai_gen_plugins.overfitted.coolchic_model import multiplier_at
from compressai_gen_plugins.overfitted.coolchic_schedules import SCHEDULES, Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, levels, put

VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)
QUICK = Schedule(
    ((2, 10), (1, 10)),
    (
        Stage(60, 1),
        Stage(20, 1 / 10, rounded=True),
        Stage(10, 1 / 5, "latents", rounded=True, fixed=True),
    ),
)


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(photographs.astronaut()).crop((180, 40, 300, 130)).resize((40, 30))


def tensor_of(photo):
    return torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1).float() / 255


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


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


def test_the_law_is_laplaces():
    value = bits(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([-1.0]))
    scale = math.exp(0.5)
    mass = 0.5 * (math.exp(-1.0 / scale) - math.exp(-2.0 / scale))
    assert float(value) == pytest.approx(-math.log2(mass), rel=1e-5)
    total = bits(torch.arange(-200.0, 201), torch.tensor(0.3), torch.tensor(-2.0))
    assert float((2**-total).sum()) == pytest.approx(1, abs=0.01)
    assert float(bits(torch.tensor(500.0), torch.tensor(0.0), torch.tensor(9.0))) == 16


def test_the_tables_are_laplaces_in_integers():
    rows = arm_tables.tables()
    assert (np.diff(rows) > 0).all()
    assert (rows[:, 0] == 0).all()
    assert (rows[:, -1] == 2**arm_tables.PRECISION).all()
    for scale, fraction in ((10, 3), (70, 8), (100, 15), (127, 0)):
        spread = math.exp(-7 + scale * 12 / 127)
        mean = fraction / 16 - 0.5
        masses = np.diff(rows[scale * 16 + fraction]) / 2**arm_tables.PRECISION
        for symbol in (-3, -1, 0, 1, 2):
            above, below = ((symbol + s - mean) / spread for s in (0.5, -0.5))
            expected = sum(
                sign * (0.5 * math.exp(v) if v < 0 else 1 - 0.5 * math.exp(-v))
                for sign, v in ((1, above), (-1, below))
            )
            got = masses[symbol + arm_tables.REACH]
            assert got == pytest.approx(expected, rel=1e-3, abs=3e-6)
    import hashlib

    digest = hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == TABLES, "files written with other tables could not be read any more"


TABLES = "c33deb237ddc083d"


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


def fit(x, *arguments, **options):
    """Of one picture (3, H, W)."""
    (fitted,) = fit_all(x[None], *arguments, **options)
    return fitted


def fitting_of(x, loss):
    torch.manual_seed(0)
    judge = loss_of(loss, x.device)
    return Fitting(x[None], V1, [1e-3], Schedule(((1, 5),), ()), judge)


@VERSIONS
def test_a_fit_is_a_file_that_draws_the_picture(version, photo):
    x = tensor_of(photo)
    network, steps = fit(x, version, 1e-3, QUICK)
    chunks, crc = coolchic_files.write(network, steps)
    other, latents, other_crc = coolchic_files.read(chunks, version, 30, 40)
    assert crc == other_crc
    sent = network.latents(torch.round)
    assert all(torch.equal(a, b.detach()) for a, b in zip(latents, sent, strict=True))
    for a, b in zip(levels(network, steps), levels(other, steps), strict=True):
        assert torch.equal(a, b)
    picture = other.picture(latents).detach().clamp(0, 1)[0]
    torch.testing.assert_close(picture, network.picture(sent).detach().clamp(0, 1)[0])
    flat = x.mean((1, 2), keepdim=True).expand_as(x)
    assert psnr(picture, x) > psnr(flat, x) + 1
    again, same = fit(x, version, 1e-3, QUICK)
    assert same == steps
    assert torch.equal(again.log2_gains, network.log2_gains)  # reproducible


def test_the_best_state_is_kept_and_lambda_follows_the_loss(photo):
    x, seen = tensor_of(photo), []
    fitting = fitting_of(x, "mse")
    fitting.warm_up()
    assert float(fitting.multipliers) == pytest.approx(1e-3, rel=1e-3)
    check = fitting.check
    fitting.check = lambda: seen.append(check()) or seen[-1]
    fitting.train(Stage(120, 1))
    assert fitting.best_cost == min(seen)
    assert float(check()) == pytest.approx(float(min(seen)), rel=1e-5)
    for name, low, high in (("log-cosh", 0.4, 0.5), ("l1", 1.0, 30.0)):
        other = fitting_of(x, name)
        other.warm_up()
        assert low < float(other.multipliers) / 1e-3 < high


def test_a_killed_fit_goes_on(photo, tmp_path):
    x, state, seen = tensor_of(photo), tmp_path / "state", []

    def stop(done, standing):
        if done >= 110:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(x, V1, 1e-3, QUICK, state=state, progress=stop)
    network, steps = fit(x, V1, 1e-3, QUICK, state=state, progress=lambda d, s: seen.append(d))
    assert seen[0] == 90  # after warm-up and first stage
    assert seen[-1] == 120
    assert coolchic_files.write(network, steps)[1]


def test_another_rate_of_the_same_picture_starts_from_the_first(photo):
    x, seen = tensor_of(photo), []
    first, _ = fit(x, V1, 1e-3, QUICK)
    other, steps = fit(x, V1, 2e-2, QUICK, start=first, progress=lambda d, s: seen.append(d))
    assert seen[-1] == 60 // 4 + 30  # no warm-up, a quarter of the first stage
    few, many = (
        sum(map(len, coolchic_files.write(network, steps)[0][2:])) for network in (other, first)
    )
    assert few < many
    assert multiplier_at(V2, 1) == pytest.approx(2e-2)
    assert multiplier_at(V2, 4.5) == pytest.approx(2e-4)
    assert multiplier_at(V2, 5) == pytest.approx(1e-4)


def test_a_rate_and_a_quality_are_reached(photo, monkeypatch):
    monkeypatch.setitem(SCHEDULES, "draft", QUICK)
    codec, pixels = CoolChicV2Codec(), 30 * 40
    compress = codec.encoder(photo, preset="draft")
    low, high = (8 * len(compress(quality)) / pixels for quality in codec.quality_range)
    assert low < high
    reached = reach_bpp(codec.encoder(photo, preset="draft"), codec.quality_range, pixels, 0.5 * (
        low + high))  # fmt: skip
    assert reached.bpp <= 0.5 * (low + high)


def test_published_schedules():
    assert sum(c * i for c, i in SCHEDULES["fast"].warmup) == 6000
    assert SCHEDULES["slow"].stages[0].patience == 1500
    assert {"draft", "fast", "medium", "slow"} == set(SCHEDULES)


def test_rounded_weights_come_back(photo):
    network = CoolChic(V2, 8, 8)
    steps = Steps(6, 10, 7, 9, 8)
    values = levels(network, steps)
    put(network, values, steps)
    assert all(torch.equal(a, b) for a, b in zip(values, levels(network, steps), strict=True))


def test_the_command_with_nothing_to_download(cgen, work):
    for version in (1, 2):
        name = f"cool-chic-v{version}"
        status, _, err = cgen(
            "compress", "photo.png", f"{version}.cgen", "--codec", name, "--quality", 3,
            "--preset", "draft",
        )  # fmt: skip
        assert status == 0, err
        status, _, err = cgen("decompress", f"{version}.cgen", "a.png")
        assert status == 0, err
        a, b = (tensor_of(Image.open(name)) for name in ("photo.png", "a.png"))
        assert psnr(a, b) > 17
        with open(f"{version}.cgen", "rb") as file:
            assert codec_for(file.read()).name == name


def test_the_zoo_also_without_gradients(photo):
    from compressai.zoo import image_models

    model = image_models["cool-chic-v2"](4, pretrained=True, preset="draft").eval()
    assert next(model.parameters()).is_floating_point()
    x = torch.nn.functional.pad(tensor_of(photo)[None], (0, 24, 0, 34))
    with torch.no_grad():
        out = model.compress(x)
    x_hat = model.decompress(out["strings"], out["shape"])["x_hat"]
    assert psnr(x_hat, x) > 17
    with pytest.raises(OptionError, match="no quality 6"):
        image_models["cool-chic-v2"](6)
    with pytest.raises(OptionError, match="no estimated rate"):
        model(x)


@pytest.fixture(scope="module")
def file(photo):
    chunks, crc = coolchic_files.write(*fit(tensor_of(photo), V2, 1e-3, QUICK))
    header = Header(codec_fingerprint("cool-chic-v2"), bytes(2), 30, 40, crc, quality=3)
    return pack(header, chunks)


def test_a_file_decodes_alike_with_any_number_of_threads(file):
    before, pictures = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        pictures.append(CoolChicV2Codec().decompress(file, output_type="np").astype(int))
    torch.set_num_threads(before)
    assert pictures[0].shape == (30, 40, 3)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_damaged_and_hostile_files(file):
    codec, rng = CoolChicV2Codec(), random.Random(0)
    for number in range(20_000):
        bad = damaged(file, number, rng)
        if bad != file:
            with pytest.raises(BitstreamError):
                codec.decompress(bad)
    header, chunks = unpack(file)
    side, stream, *grids = chunks
    fixed = [
        [side], [side, stream], [b"", stream, *grids], [side[:-1], stream, *grids],
        [b"\xff" + side[1:], stream, *grids], [side, stream[:-4], *grids],
        [side, bytes(64), *grids], [side, stream, *grids, b""], [side, stream, *grids[::-1]],
        [side, stream, grids[0] + bytes(50) + b"x", *grids[1:]],
    ]  # fmt: skip
    for attack in fixed:
        with pytest.raises(BitstreamError):
            codec.decompress(pack(header, attack))
    for _ in range(200):
        attack = [bytearray(chunk) for chunk in chunks]
        chosen = attack[rng.randrange(len(attack))]
        if chosen:
            chosen[rng.randrange(len(chosen))] = rng.randrange(256)
        with contextlib.suppress(CodecError):
            codec.decompress(pack(header, [bytes(chunk) for chunk in attack]))


def test_losses_side_by_side(cgen, work, monkeypatch):
    """The study of the loss paper: a list of losses, a result file each."""
    monkeypatch.setitem(SCHEDULES, "draft", QUICK)
    evaluate = ("evaluate", ".", "--codec", "cool-chic-v1", "--quality", 2, "--out", "r.json")
    options = ("--metrics", "psnr-rgb", "--preset", "draft", "--loss")
    status, _, err = cgen(*evaluate, *options, "mse,l1")
    assert status == 0, err
    read = [json.loads((work / f"r-loss{name}.json").read_text()) for name in ("mse", "l1")]
    assert [r["name"] for r in read] == ["cool-chic-v1-lossmse", "cool-chic-v1-lossl1"]
    assert read[0]["results"]["bpp"] != read[1]["results"]["bpp"]
    assert read[1]["model"]["options"] == {"preset": "draft", "loss": "l1"}
    assert_one_line(cgen(*evaluate, "--tau", 0.5), "no option --tau")


def test_a_picture_of_where_the_bits_go(cgen, work, file):
    (work / "a.cgen").write_bytes(file)
    status, out, err = cgen("info", "a.cgen", "--picture", "bits.png")
    assert status == 0, err
    assert "9 (" in out  # chunks
    assert min(Image.open("bits.png").size) > 500
    assert cgen("compress", "photo.png")[0] == 0
    assert_one_line(cgen("info", "photo.cgen", "--picture", "b.png"), "draws none of its files")


def test_mistakes_are_told(cgen, work):
    photo = ("compress", "photo.png", "x.cgen", "--codec", "cool-chic-v1", "--preset", "draft")
    for options, words in (
        (("--quality", 4.5), "no quality 4.5"),
        (("--quality", 0), "no quality 0"),
        (("--bpp", 1e-3), "cannot be reached"),
        (("--loss", "l3"), "l1"),
        (("--checkpoint", "."), "no checkpoint"),
    ):
        assert_one_line(cgen(*photo, *options), words)
    assert_one_line(cgen(*photo[:-1], "slowest"), "slow")
    with pytest.raises(OptionError, match="GiB"):
        CoolChicV2Codec().compress(torch.zeros(3, 4096, 4096))
    assert not list(work.glob("*.cgen"))


@pytest.mark.parametrize("size", [(1, 1), (3, 70)])
def test_pictures_smaller_than_the_coarsest_grid(size):
    data = CoolChicV2Codec().compress(torch.full((3, *size), 0.5), preset="draft")
    assert CoolChicV2Codec().decompress(data).size == size[::-1]
