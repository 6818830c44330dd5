"""Exact products: bytes and float64 give the same integers."""

from __future__ import annotations

import pytest
import torch

from compressai_gen.entropy import products
from compressai_gen.entropy.arithmetic import ACTIVATION_BOUND, WEIGHT_BOUND
from compressai_gen.entropy.convolutions import FixedConv2d
from compressai_gen.entropy.products import bytes_of, planes_for, product, weight_planes

CPU = torch.device("cpu")


def integers(bound: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(bound)
    return torch.randint(-bound, bound + 1, shape, generator=generator)


@pytest.fixture(params=["bytes", "float64"])
def kind(request, monkeypatch):
    monkeypatch.setattr(products, "multiplies_bytes", lambda _: request.param == "bytes")
    return request.param


@pytest.mark.parametrize(
    "edge", [0, 1, -1, 127, 128, -128, -129, 32639, 32640, 2**26 - 1, -(2**26)]
)
def test_bytes_stand_for_the_integer(edge):
    planes = bytes_of(torch.tensor([edge, 0]))
    assert all(plane.dtype == torch.int8 for plane in planes)
    assert sum(256**i * int(plane[0]) for i, plane in enumerate(planes)) == edge
    assert len(planes) <= 4


@pytest.mark.parametrize("bounds", [(100, 100), (WEIGHT_BOUND, 2**15), (5, ACTIVATION_BOUND)])
@pytest.mark.parametrize("size", [(1, 1, 1), (7, 33, 5), (16, 900, 64)])
def test_products_are_exact(kind, bounds, size):
    outputs, inputs, columns = size
    matrix, x = integers(bounds[0], outputs, inputs), integers(bounds[1], inputs, columns)
    weight = weight_planes(matrix, CPU)
    assert weight.dtype == (torch.int8 if kind == "bytes" else torch.float64)
    assert torch.equal(product(weight, planes_for(weight, x.double())).long(), matrix @ x)


def test_the_largest_of_everything(kind):
    """Three planes of weights, four of activations, all of one sign: next to 2**53."""
    inputs = 2**12 - 1
    matrix = torch.full((2, inputs), WEIGHT_BOUND)
    x = torch.full((inputs, 3), ACTIVATION_BOUND)
    weight = weight_planes(matrix, CPU)
    expected = inputs * WEIGHT_BOUND * ACTIVATION_BOUND
    assert 2**52 < expected < 2**53
    out = product(weight, planes_for(weight, -x.double()))
    assert out.unique().tolist() == [-expected]


def test_some_of_the_inputs(kind):
    matrix, x = integers(300, 4, 10), integers(300, 6, 3)
    weight = weight_planes(matrix, CPU)
    out = product(weight[:, :, 3:9], planes_for(weight, x.double()))
    assert torch.equal(out.long(), matrix[:, 3:9] @ x)


def test_long_sums_stay_in_float64(monkeypatch):
    monkeypatch.setattr(products, "multiplies_bytes", lambda _: True)
    assert weight_planes(torch.ones(1, products.LONGEST), CPU).dtype == torch.float64
    assert weight_planes(torch.ones(1, products.LONGEST - 1), CPU).dtype == torch.int8


def test_float64_where_bytes_are_not_fast(monkeypatch):
    monkeypatch.setattr(products, "processor_does", lambda: True)
    assert products.multiplies_bytes(CPU)
    assert not products.multiplies_bytes(torch.device("cuda"))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not products.multiplies_bytes(CPU)
    monkeypatch.setattr(products, "processor_does", lambda: False)
    assert not products.multiplies_bytes(CPU)


def test_weights_are_prepared_anew_when_one_dnn_is_switched_off(monkeypatch):
    """Without it products of bytes would be exact, and far slower."""
    monkeypatch.setattr(products, "processor_does", lambda: True)
    layer = FixedConv2d.from_float(torch.nn.Conv2d(3, 4, 3, padding=1))
    x = integers(2**14, 3, 5, 6).double()
    expected = layer(x)
    assert layer.prepared(CPU)[0].dtype == torch.int8
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x), expected)
        assert layer.prepared(CPU)[0].dtype == torch.float64
