"""COOL-CHIC: a step of a fit, in blocks and of parts, against the same model written plainly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

from compressai_gen_plugins.overfitted import blocks, coolchic, fused, stack
from compressai_gen_plugins.overfitted.coolchic import bits
from compressai_gen_plugins.overfitted.coolchic_cost import PREFIX, Cost, loss_of
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting, fit
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_start import lifted
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2, offsets
from compressai_gen_plugins.overfitted.coolchic_weights import Steps, levels, put

VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)
PARTS = ("latents", "arm", "synthesis", "networks", "all")


def started(version, size=(30, 41), count=1):
    """Fits whose latents and weights are not at their start."""
    torch.manual_seed(0)
    x = torch.rand(count, 3, *size)
    multipliers = [1e-2 * (n + 1) for n in range(count)]
    fitting = Fitting(x, version, multipliers, Schedule((), ()), loss_of("mse", x.device))
    for value in fitting.stack.weights.values():
        value.add_(0.1 * torch.randn(value.shape))
    return fitting


def plain_rate(network, latents):
    """Every latent with its neighbours as a row, through linear layers."""
    total, radius = torch.zeros(()), network.version.radius
    for grid in latents:
        padded = F.pad(grid[0, 0], (radius,) * 4)
        h, w = grid.shape[2:]
        rows = [padded[radius + i :, radius + j :][:h, :w] for i, j in offsets(radius)]
        x = torch.stack(rows, -1).flatten(0, 1)
        first, second, last = network.arm.layers
        x = F.relu(first(x) + x)
        mu, sharpness = last(F.relu(second(x) + x)).T
        total = total + bits(grid.flatten(), mu, sharpness).sum()
    return total


def plain_picture(network, latents):
    """Upsampled grids through convolutions."""
    x = network.upsampled(latents)
    for conv, layer in zip(network.synthesis, network.version.layers, strict=True):
        h = conv(F.pad(x, (layer.kernel // 2,) * 4, mode="replicate"))
        h = h + x if layer.residual else h
        x = F.relu(h) if layer.relu else h
    return x


def gradients(network, value):
    network.zero_grad()
    value.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@VERSIONS
@pytest.mark.parametrize("block", [1, 100, 2**14])
def test_blocks_are_the_plain_model(version, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    network = started(version).network(0).double()
    for ours, plain in ((network.rate, plain_rate), (network.picture, plain_picture)):
        latents = network.latents(lambda y: 3 * y)
        a, b = ours(latents), plain(network, network.latents(lambda y: 3 * y))
        torch.testing.assert_close(a, b)
        outer = torch.randn(a.shape, dtype=a.dtype)
        found, expected = (gradients(network, (outer * value).sum()) for value in (a, b))
        for name, gradient in expected.items():
            if gradient is None:
                assert found[name] is None
            else:
                torch.testing.assert_close(found[name], gradient, msg=name)
        with torch.no_grad():
            torch.testing.assert_close(ours(latents), b)


@VERSIONS
@pytest.mark.parametrize("part", PARTS)
def test_a_stage_trains_its_part_as_if_it_were_the_whole(version, part):
    fitting = started(version)
    fits, inputs = fitting.stack, (*fitting.inputs(), [])
    before = {name: value.clone() for name, value in fits.weights.items()}
    fits.trained(fitting.cost.names("all"))
    fits.differentiate(inputs)
    expected = {name: value.grad.clone() for name, value in fits.weights.items()}
    chosen = fitting.cost.names(part)
    fits.trained(chosen)
    fits.differentiate(inputs, part=part)
    for name, value in fits.weights.items():
        if name in chosen:
            torch.testing.assert_close(value.grad, expected[name], msg=name)
        else:
            assert value.grad is None
    fitting.step(torch.optim.Adam(fits.trained(chosen)), Stage(1, 1, part))
    moved = {name for name, value in fits.weights.items() if (value != before[name]).any()}
    assert moved
    assert moved <= set(chosen)


@VERSIONS
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("loss", ["mse", "l1-ssim"])
def test_pictures_side_by_side_are_pictures_one_by_one(version, part, loss, monkeypatch):
    fitting = started(version, count=3)
    fitting.cost.judge[0] = loss_of(loss, fitting.x.device)
    weights = fitting.stack.weights
    fitting.stack.weights = {name: value.double() for name, value in weights.items()}
    inputs = tree_map(torch.Tensor.double, (*fitting.inputs(), fitting.drawn()))  # sums: any order
    fitting.stack.trained(fitting.cost.names(part))

    def found():
        fitting.stack.differentiate(inputs, part=part)
        weights = fitting.stack.weights
        names = fitting.cost.names(part)
        gradients = {name: weights[name].grad.clone() for name in names}
        return gradients, fitting.stack.evaluate(inputs, part=part)

    alone = found()
    calls = []
    for module in (blocks, coolchic, fused, stack):
        monkeypatch.setattr(module, "at_once", lambda device: True)
    monkeypatch.setattr(stack, "vmap", lambda f: calls.append(f) or torch.func.vmap(f))
    together = found()
    assert calls
    torch.testing.assert_close(together, alone)
    fitting.stack.pixels = 2 * 30 * 41
    torch.testing.assert_close(found(), alone)  # two, then one


@VERSIONS
def test_gains_are_lifted_and_latents_stay(version):
    fitting = started(version, count=2)
    with torch.no_grad():
        fitting.stack.weights["network.log2_gains"] += torch.rand(2, 7) - 1  # V2's least is 1
    before = [fitting.network(n).latents(torch.clone) for n in range(2)]
    for _ in range(2):
        fitting.stack.weights |= lifted(fitting.stack.weights, version.least_gain)
        for n, grids in enumerate(before):
            network = fitting.network(n)
            torch.testing.assert_close(network.latents(torch.clone), grids)
            gains = 2 ** network.log2_gains.detach()
            assert float(gains.min()) == pytest.approx(16)
            assert gains.max() > 30


def test_without_a_last_stage_networks_are_rounded_all_the_same():
    x, schedule = torch.rand(1, 3, 20, 24), Schedule(((1, 5),), (Stage(5, 1),))
    ((network, steps),) = fit(x, V2, 1e-3, schedule)
    sent = copy.deepcopy(network)
    put(sent, levels(sent, steps), steps)
    for given, expected in zip(network.parameters(), sent.parameters(), strict=True):
        assert torch.equal(given, expected)


@pytest.mark.parametrize("trial", [0, 10])
def test_a_warm_up_ends_with_lifted_gains(trial, monkeypatch):
    tried = []
    monkeypatch.setattr(Fitting, "choose_grids", lambda self: tried.append(len(self.stack)))
    x, schedule = torch.rand(1, 3, 20, 24), Schedule(((2, 10), (1, 10)), (), trial)
    fitting = Fitting(x, V1, [1e-3], schedule, loss_of("mse", x.device))
    fitting.warm_up()
    assert tried == [1] * bool(trial)
    assert float(fitting.best["network.log2_gains"].min()) == pytest.approx(4)
    assert fitting.best_cost == fitting.check()


@VERSIONS
def test_full_or_empty_grids_go_on_whichever_are_better_for_a_picture(version, monkeypatch):
    """By lambda: bits are for nothing in the first picture, and all that counts in the second."""
    fitting = started(version, count=2)
    fitting.schedule = Schedule((), (), trial=9)
    with torch.no_grad():
        x_hat = fitting.network(0).picture(fitting.network(0).latents(torch.round))
    fitting.take([fitting.stack.one(0)] * 2)
    fitting.x, fitting.multipliers = x_hat.expand(2, -1, -1, -1), torch.tensor([0.0, 1e3])
    before, stages = fitting.stack.copied(), []
    monkeypatch.setattr(fitting, "train", lambda stage: stages.append((stage, len(fitting.stack))))
    fitting.choose_grids()
    assert stages == [(Stage(9, 1), 4)]
    for name, value in fitting.stack.weights.items():
        emptied = name.startswith(f"{PREFIX}grids.")
        assert torch.equal(value[0], before[name][0])
        assert torch.equal(value[1], 0 * before[name][1] if emptied else before[name][1])


@pytest.mark.parametrize(("iterations", "rise"), [(300, 50), (40, 10), (3, 1)])
def test_the_learning_rate_of_a_stage_rises(iterations, rise, monkeypatch):
    fitting, rates = started(V2), []
    monkeypatch.setattr(fitting, "look", lambda: torch.ones(1, dtype=torch.bool))
    monkeypatch.setattr(fitting, "step", lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    fitting.train(Stage(iterations, 0.5))
    expected = [5e-3 * min(1, (n + 1) / rise) for n in range(iterations)]
    assert rates == pytest.approx(expected)


@VERSIONS
def test_networks_are_trained_as_a_file_holds_them(version):
    """Gradients are taken at rounded weights; what is kept is rounded, each by its own steps."""
    fitting = started(version, count=2)
    fitting.steps = [Steps(4, 6, 5, 7, 6), Steps(5, 7, 6, 8, 5)]
    trained = fitting.stack.copied()
    rounded = []
    for number, steps in enumerate(fitting.steps):
        network = fitting.network(number)
        put(network, levels(network, steps), steps)
        rounded.append(network)
    stage = Stage(1, 1e-4, "networks", rounded=True, fixed=True)
    optimizer = torch.optim.Adam(fitting.stack.trained(fitting.cost.names("networks")), 1e-6)
    fitting.step(optimizer, stage)
    for number, network in enumerate(rounded):
        cost = Cost(network, fitting.cost.judge[0])
        value = cost(*(each[number] for each in fitting.inputs()), [])[0]
        expected = gradients(cost, value)
        for name in fitting.cost.names("networks"):
            found = fitting.stack.weights[name].grad[number]
            direction = found / found.norm()  # its length is limited
            torch.testing.assert_close(direction, expected[name] / expected[name].norm())
    moved = fitting.stack.weights["network.arm.layers.0.weight"].detach()
    torch.testing.assert_close(moved, trained["network.arm.layers.0.weight"], atol=2e-6, rtol=0)
    fitting.look()
    for name in fitting.cost.names("networks"):
        own = name.removeprefix("network.")
        sent = torch.stack([dict(network.named_parameters())[own] for network in rounded])
        assert torch.equal(fitting.best[name], sent)


@pytest.mark.parametrize("all_at_once", [False, True])
def test_a_fit_does_not_depend_on_its_neighbours(all_at_once, monkeypatch):
    for module in (blocks, coolchic, fused, stack):
        monkeypatch.setattr(module, "at_once", lambda device: all_at_once)
    torch.manual_seed(1)
    x, multipliers = torch.rand(2, 3, 20, 24), (1e-3, 1e-2)
    stages = Stage(60, 1), Stage(10, 0.1, "latents", rounded=True, fixed=True)
    schedule = Schedule(((3, 10), (2, 10)), stages)
    both = fit(x, V1, multipliers, schedule)
    beside = fit(torch.stack([x[0], 1 - x[1] / 2]), V1, (1e-3, 1e-1), schedule)
    (network, steps), (same, same_steps) = both[0], beside[0]
    assert steps == same_steps
    for sent, expected in zip(network.parameters(), same.parameters(), strict=True):
        assert torch.equal(sent, expected)
    for picture, multiplier, (network, steps) in zip(x, multipliers, both, strict=True):
        ((alone, alone_steps),) = fit(picture[None], V1, multiplier, schedule)
        if all_at_once:  # candidates draw their noise in another order
            ours, theirs = (cost_of(n, picture, multiplier) for n in (network, alone))
            assert ours == pytest.approx(theirs, rel=0.2)
        else:
            assert steps == alone_steps
            for sent, expected in zip(network.parameters(), alone.parameters(), strict=True):
                assert torch.equal(sent, expected)


@torch.no_grad()
def cost_of(network, x, multiplier):
    cost = Cost(network, loss_of("mse", x.device))
    return float(cost(x, torch.tensor(multiplier), torch.tensor(1.0), [])[0])


def test_gradients_are_clipped_picture_by_picture():
    parameters = [torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    parameters[0].grad = torch.tensor([[3.0, 0, 0], [0.3, 0, 0]])
    parameters[1].grad = torch.tensor([4.0, 0.4])
    stack.clip(parameters, 1.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([[0.6, 0, 0], [0.3, 0, 0]]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.8, 0.4]))
