"""COOL-CHIC's compiled steps against the same by torch's operations in double precision."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from compressai_gen_plugins.overfitted import fused
from compressai_gen_plugins.overfitted.coolchic import Arm, CoolChic, Synthesis
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2

pytest.importorskip("numba", reason="numba is not installed: there is nothing compiled")
VERSIONS = pytest.mark.parametrize("version", [V1, V2], ids=lambda v: v.name)
SIZES = pytest.mark.parametrize("size", [(1, 1), (3, 130), (131, 40), (128, 257)], ids=str)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def moved(module):
    """With weights that are not at their start."""
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module


def check(compute, *tensors, within):
    """A result and its gradients are those in double precision, but for a share of the largest."""
    found, expected = (
        with_gradients(compute, [tensor.detach().to(dtype) for tensor in tensors])
        for dtype in (torch.float32, torch.float64)
    )
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= within * b.abs().max()


def with_gradients(compute, tensors):
    for tensor in tensors:
        tensor.requires_grad_()
    assert fused.usable(tensors[0]) == (tensors[0].dtype == torch.float32)
    value = compute(*tensors)
    outer = torch.rand(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return value.detach(), *torch.autograd.grad(value, tensors, outer)


class Rate(torch.nn.Module):
    def __init__(self, version):
        super().__init__()
        self.arm = moved(Arm(version))

    def forward(self, latents):
        return self.arm.rate([latents])


@SIZES
@VERSIONS
@pytest.mark.parametrize("spread", [1, 20])
def test_bits_and_their_gradients(version, size, spread):
    """Some latents are far from what is expected; laws are as wide and as narrow as they may be."""
    model = Rate(version)
    model.arm.layers[-1].weight.data[1] *= spread
    names = [name for name, _ in model.named_parameters()]

    def bits(latents, *weights):
        return functional_call(model, dict(zip(names, weights, strict=True)), latents)

    check(bits, 4 * torch.randn(1, 1, *size), *model.parameters(), within=1e-3)


@SIZES
@VERSIONS
def test_pictures_and_their_gradients(version, size):
    synthesis = moved(Synthesis(version.layers, version.uniform_start))
    names = [name for name, _ in synthesis.named_parameters()]

    def drawn(x, *weights):
        return functional_call(synthesis, dict(zip(names, weights, strict=True)), x)

    check(drawn, torch.randn(1, 7, *size), *synthesis.parameters(), within=1e-4)


@SIZES
def test_bicubic_enlargement_and_its_gradient(size):
    check(CoolChic(V1, 8, 8).enlarged, torch.randn(1, 3, *size), within=1e-5)


@SIZES
def test_enlargement_by_a_kernel_and_its_gradients(size):
    def enlarged(x, kernel):
        padded = F.pad(x, (2,) * 4, mode="replicate")
        if fused.usable(x):
            return fused.enlarged(padded, kernel)
        return F.conv_transpose2d(padded[:, None], kernel[None, None], stride=2)[:, 0, 7:-7, 7:-7]

    check(enlarged, torch.randn(3, *size), torch.randn(8, 8), within=1e-5)


@VERSIONS
def test_a_step_does_not_depend_on_the_number_of_threads(version, monkeypatch):
    network = moved(CoolChic(version, 150, 140))
    rectified = tuple(layer.relu for layer in version.layers[: network.synthesis.pointwise])
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        bits = network.rate(network.latents(lambda y: 30 * y))
        x = network.upsampled(network.latents(lambda y: y))[0].flatten(1)
        pixels = fused.pixels(x, rectified, network.synthesis.weights())
        value = bits + pixels.square().sum()
        parts = [p for name, p in network.named_parameters() if "synthesis" not in name]
        found.append([value, pixels, *torch.autograd.grad(value, parts)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


STEP = """
import torch
from compressai_gen_plugins.overfitted import fused
from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.coolchic_versions import V1
torch.manual_seed(0)
network = CoolChic(V1, 40, 150)
network.rate(network.latents(lambda y: y + torch.randn_like(y))).backward()
rectified = tuple(layer.relu for layer in V1.layers)
fused.pixels(torch.randn(7, 6000), rectified, network.synthesis.weights()).square().sum().backward()
print([p.grad.double().sum().item() for p in network.parameters() if p.grad is not None])
"""


def test_a_step_is_the_same_in_the_process_that_compiles_it(tmp_path):
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STEP]
    compiling, later = (
        subprocess.run(command, env=settings, check=True, capture_output=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert compiling == later


def test_what_is_not_wanted_is_not_computed(monkeypatch):
    arm, wanted, kernel = Arm(V1), [], fused.fused_kernels.rate
    monkeypatch.setattr(fused.fused_kernels, "rate", lambda *a: wanted.append(a[5]) or kernel(*a))
    latents = torch.randn(1, 1, 5, 6)
    arm.rate([latents]).backward()
    arm.requires_grad_(False)
    arm.rate([latents.requires_grad_()]).backward()
    assert wanted == [(False, True), (True, False)]


def test_nothing_is_compiled_where_nothing_is_trained():
    assert fused.usable(torch.zeros(1))
    assert not fused.usable(torch.zeros(1, dtype=torch.float64))
    with torch.no_grad():
        assert not fused.usable(torch.zeros(1))
