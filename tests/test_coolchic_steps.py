"""COOL-CHIC: a step of a fit, in blocks and of parts, against the same model written plainly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from compressai_gen_plugins.overfitted import blocks
from compressai_gen_plugins.overfitted.coolchic import V1, V2, CoolChic, bits, offsets
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting, loss_of
from compressai_gen_plugins.overfitted.coolchic_schedules import Schedule, Stage

VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)
PARTS = ("latents", "arm", "synthesis", "all")


def started(version, size=(30, 41)):
    """A fit whose latents and weights are not at their start."""
    torch.manual_seed(0)
    fitting = Fitting(
        torch.rand(3, *size), version, 1e-2, Schedule((), ()), loss_of("mse"), None, None
    )
    with torch.no_grad():
        for parameter in fitting.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
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
    network = started(version).network.double()
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
    network, stage = fitting.network, Stage(1, 1, part)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    latents = network.latents(torch.round)
    expected = gradients(network, fitting.cost(latents))
    fitting.optimizer(stage)
    found = gradients(network, fitting.cost(network.latents(torch.round), part))
    chosen = {id(parameter) for parameter in fitting.parameters(part)}
    for name, parameter in network.named_parameters():
        if id(parameter) not in chosen:
            assert found[name] is None
        elif expected[name] is not None:
            torch.testing.assert_close(found[name], expected[name], msg=name)
    fitting.step(fitting.optimizer(stage), stage)
    moved = [name for name, value in network.state_dict().items() if (value != before[name]).any()]
    assert {id(network.get_parameter(name)) for name in moved} <= chosen
    assert moved


def test_a_trained_network_can_be_trained_again():
    fitting = started(V1, (8, 8))
    fitting.train(Stage(1, 1, "arm"))
    assert all(parameter.requires_grad for parameter in fitting.network.parameters())
    assert isinstance(fitting.network, CoolChic)
