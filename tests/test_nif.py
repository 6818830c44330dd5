"""NIF: the published sizes, the schedule, fits that can be interrupted."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from quick_fits import psnr, small_photo, tensor_of

from compressai_gen.losses.pictures import log_cosh
from compressai_gen_plugins.overfitted import nif, nif_cost, nif_fitting, stack
from compressai_gen_plugins.overfitted.codec import NifCodec
from compressai_gen_plugins.overfitted.nif import (
    QUALITIES,
    Nif,
    Sizes,
    encoded,
    features,
    grid,
    sizes_at,
    weight_count,
)
from compressai_gen_plugins.overfitted.nif_cost import loss_of
from compressai_gen_plugins.overfitted.nif_fitting import Fitting, pieces, shake
from compressai_gen_plugins.overfitted.nif_fitting import fit as fit_all
from compressai_gen_plugins.overfitted.nif_schedules import FULL, ROUNDED, SCHEDULES, Schedule

SMALL = Sizes((16, 8), (8,))
QUICK = Schedule(2, 8, 1, 4)


@pytest.fixture(scope="module")
def photo():
    return small_photo()


@pytest.mark.parametrize(("quality", "count"), [(1, 14_992), (4, 54_944)])
def test_the_published_sizes(quality, count):
    assert sum(p.numel() for p in Nif(QUALITIES[quality]).parameters()) == count


@pytest.mark.parametrize(
    ("quality", "low", "high"), [(1, 486, 499), (4, 795, 861), (7, 1202, 1404)]
)
def test_the_memory_of_a_fit_is_about_what_was_measured(quality, low, high):
    told = nif_fitting.numbers_a_pixel(QUALITIES[quality])
    assert 0.95 * low < told < 1.05 * high
    assert f"{told}" in nif_fitting.numbers_a_pixel.__doc__


def test_what_the_network_sees():
    positions = grid(3, 5)
    assert positions.shape == (15, 2)
    assert positions[0].tolist() == [-1, -1]
    assert positions[5].tolist() == [0, -1]  # rows first
    seen = encoded(positions, 16)
    assert seen.shape == (15, 66)
    row, column = positions[7].tolist()
    angle = 1.4**3 * math.pi
    expected = [math.sin(angle * row), math.cos(angle * row), math.sin(angle * column)]
    assert seen[7, 2 + 12 : 2 + 15].tolist() == pytest.approx(expected, abs=1e-5)
    assert features(positions)[1].shape == (15, 18)
    assert grid(1, 1).shape == (1, 2)


def test_one_picture_in_strips(monkeypatch):
    network = Nif(SMALL).eval()
    whole = network.picture(9, 7)
    monkeypatch.setattr(nif, "DRAWN_AT_ONCE", 10)
    strips = network.picture(9, 7)
    torch.testing.assert_close(whole, strips)
    assert whole.shape == (1, 3, 9, 7)


def test_the_learning_rate():
    rates = [FULL.rate(0, step, 150) for step in range(150)]
    assert rates[0] == FULL.floor
    assert rates[19] == pytest.approx(FULL.peak)
    assert rates[20] == pytest.approx(FULL.floor + (FULL.peak - FULL.floor) * (1 - 20 / 150))
    assert max(FULL.rate(5, step, 150) for step in range(150)) < max(rates)
    assert SCHEDULES["slow"].total == 1700


def test_a_picture_is_four_interleaved_ones():
    x = torch.arange(2 * 3 * 5 * 6).view(2, 3, 5, 6) / 180
    parts = list(pieces(x))
    assert [target.shape[2:] for target, *_ in parts] == [(3, 3), (3, 3), (2, 3), (2, 3)]
    assert torch.equal(parts[1][0], x[:, :, ::2, 1::2])
    positions = grid(5, 6).view(5, 6, 2)[::2, 1::2].reshape(-1, 2)
    for network in range(2):
        assert torch.equal(parts[1][1][network], encoded(positions, 16))
    assert len(list(pieces(torch.rand(1, 3, 1, 1)))) == 1


def fit(x, *arguments, **options):
    """Of one picture (3, H, W)."""
    (network,) = fit_all(x[None], *arguments, **options)
    return network


def test_shaking_leaves_the_first_layers_alone():
    weights = Nif(SMALL).state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    shake(weights, 0.5, False, torch.Generator().manual_seed(0))
    changed = {name for name, value in weights.items() if not torch.equal(value, before[name])}
    assert changed <= {"layers.1.weight", "layers.2.weight", "modulator.1.weight"}
    assert "layers.1.weight" in changed


def test_a_fit_draws_the_picture_and_is_reproducible(photo, monkeypatch):
    x, seeded = tensor_of(photo), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    untrained = Nif(SMALL).picture(30, 40)[0]
    torch.manual_seed(5)
    longer = Schedule(2, 30, 1, 10)
    drawn = [fit(x, SMALL, longer, loss="mse").picture(30, 40)[0] for _ in range(2)]
    assert torch.equal(*drawn)
    assert psnr(drawn[0], x) > psnr(untrained, x) + 5
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the global generator is left alone
    assert seeded == [5, 5]  # and those of GPUs


@pytest.mark.parametrize("loss", ["lc-ssim", "mse"])
def test_pictures_side_by_side_are_pictures_one_by_one(loss, monkeypatch):
    torch.manual_seed(0)
    x, schedule = torch.rand(3, 3, 30, 40), Schedule(2, 3, 1, 2)
    alone = [fit(picture, SMALL, schedule, loss=loss) for picture in x]
    one_by_one = fit_all(x, SMALL, schedule, loss=loss)
    calls = []
    monkeypatch.setattr(stack, "at_once", lambda device: True)
    monkeypatch.setattr(stack, "vmap", lambda f: calls.append(f) or torch.func.vmap(f))
    together = fit_all(x, SMALL, schedule, loss=loss)
    assert calls
    for networks in (one_by_one, together):
        for network, expected in zip(networks, alone, strict=True):
            drawn, wanted = (n.picture(30, 40) for n in (network, expected))
            torch.testing.assert_close(drawn, wanted, atol=5e-3, rtol=0)  # a level of a weight


def test_a_killed_fit_goes_on(photo, tmp_path):
    x, seen = tensor_of(photo), []

    def stop(done, value):
        if done == 14:  # in the second cycle
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(x, SMALL, QUICK, state=tmp_path, loss="mse", progress=stop)
    fit(x, SMALL, QUICK, state=tmp_path, loss="mse", progress=lambda done, value: seen.append(done))
    assert seen == list(range(9, QUICK.total + 1))
    (state,) = tmp_path.iterdir()
    assert torch.load(state, weights_only=True)["done"] == QUICK.total


@torch.no_grad()
def l1_of(network, x):
    """Of the whole picture (3, H, W), at NIF's scale."""
    colours = network(*features(grid(*x.shape[1:])))
    return float(2 * ((colours.T.reshape(x.shape) + 1) / 2 - x).abs().mean())


def fitting_of(x, schedule):
    torch.manual_seed(0)
    return Fitting(x[None], Nif(SMALL), schedule, loss_of("l1", x.device))


def test_a_loss_sees_pictures_in_nifs_range_but_for_one_with_a_scale_of_its_own(photo, monkeypatch):
    x, y = tensor_of(photo)[None], torch.full((1, 3, 30, 40), 0.5)
    cpu = torch.device("cpu")
    assert torch.equal(loss_of("log-cosh", cpu)(y, x), log_cosh(y, x, 2))
    for set_to in (1, 255):
        own = partial(log_cosh, data_scale=set_to)
        monkeypatch.setattr(nif_cost, "load_loss", lambda name, own=own: own)
        assert torch.equal(loss_of("own", cpu)(y, x), log_cosh(y, x, set_to))


def test_the_best_state_is_that_of_the_trained_loss(photo):
    """Of one set of rounded weights over the whole picture, the first and the last among them."""
    x, told, seen = tensor_of(photo), [], []
    fitting = fitting_of(x, Schedule(1, 30, 2, 10))
    keep = fitting.keep
    fitting.keep = lambda *a: seen.append(keep(*a)) or seen[-1]
    (network,) = fitting.run(lambda done, standing: told.append(standing))
    assert len(seen) == 30 + 1 + 2 * 10
    assert fitting.best_loss == min(loss for loss, _ in seen[30:])
    assert float(fitting.best_loss) == pytest.approx(l1_of(network, x), rel=1e-5)
    assert told[-1] == f"about {fitting.rate:.2f} bpp, {-10 * float(seen[-1][1].log10()):.2f} dB"


@pytest.mark.parametrize("harm", [False, True])
def test_rounded_training_ends_with_its_best_state(photo, harm, monkeypatch):
    """A step that helps is kept although nothing follows it; one that harms is not."""
    x = tensor_of(photo)
    fitting = fitting_of(x, Schedule(1, 30, 1, 1))
    monkeypatch.setattr(nif_fitting, "ROUNDED", replace(ROUNDED, floor=0.1 if harm else 1e-4))
    at_first = []
    look = fitting.look
    fitting.look = lambda: at_first.append(l1_of(fitting.network(0), x)) or look()
    (network,) = fitting.run()
    before, after = at_first
    assert (after > before) == harm
    assert l1_of(network, x) == pytest.approx(min(before, after), rel=1e-5)


def test_between_published_sizes():
    assert all(sizes_at(quality) == sizes for quality, sizes in QUALITIES.items())
    assert sizes_at(2.5) == Sizes((155, 57, 33, 18), (64, 16, 8))
    counts = [weight_count(sizes_at(1 + n / 16)) for n in range(97)]
    assert counts == sorted(counts)
    for quality in (1, 2.5, 7):
        network = Nif(sizes_at(quality))
        assert weight_count(network.sizes) == sum(p.numel() for p in network.parameters())
    low, high = NifCodec().qualities_near(0.6, 768 * 512)
    assert 2 <= low < 3 < high < 5  # the published quality 3 takes 0.577
    assert NifCodec().qualities_near(1e-4, 768 * 512)[0] == 1
    assert NifCodec().qualities_near(50, 768 * 512) == (7, 7)
