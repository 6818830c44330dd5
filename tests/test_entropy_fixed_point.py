from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d, subpel_conv3x3
from torch import nn

from compressai_gen.entropy import convolutions
from compressai_gen.entropy.activations import FixedGELU, FixedLeakyReLU
from compressai_gen.entropy.arithmetic import (
    ACTIVATION_BOUND,
    ONE,
    check_accumulator,
    exact_device,
    to_fixed,
)
from compressai_gen.entropy.checkerboard import FixedContext, positions
from compressai_gen.entropy.convolutions import FixedConv2d, FixedConvTranspose2d
from compressai_gen.entropy.groups import FixedGroups
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.errors import CheckpointError, CodecError, NotPortableError


def activations(*shape, seed=0, deviation=4.0):
    generator = torch.Generator().manual_seed(seed)
    return to_fixed(torch.randn(*shape, generator=generator) * deviation)


def shifted(total, shift):
    """Requantisation in int64: an arithmetic shift with rounding."""
    half = (1 << shift) >> 1
    return ((total + half) >> shift).clamp(-ACTIVATION_BOUND, ACTIVATION_BOUND)


def int64_conv(layer, x):
    """The same convolution in 64 bit integers, tap by tap."""
    padding, stride, kernel = layer.padding, layer.stride, layer.kernel
    x = F.pad(x.long(), (padding,) * 4)
    height, width = ((n - kernel) // stride + 1 for n in x.shape[1:])
    total = layer.bias[:, None, None].repeat(1, height, width)
    for i in range(kernel):
        for j in range(kernel):
            window = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
            total += (layer.weight[:, :, i, j].long() @ window.flatten(1)).view_as(total)
    return shifted(total, layer.shift)


def int64_conv_transpose(layer, x):
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding
    height, width = ((n - 1) * stride + kernel + layer.output_padding for n in x.shape[1:])
    total = torch.zeros(layer.bias.numel(), height, width, dtype=torch.int64)
    for i in range(kernel):
        for j in range(kernel):
            part = layer.weight[:, :, i, j].long().t() @ x.long().flatten(1)
            rows = slice(i, i + stride * (x.size(1) - 1) + 1, stride)
            columns = slice(j, j + stride * (x.size(2) - 1) + 1, stride)
            total[:, rows, columns] += part.view(-1, *x.shape[1:])
    inside = total[:, padding : height - padding, padding : width - padding]
    return shifted(inside + layer.bias[:, None, None], layer.shift)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (4, 2)])
def test_convolution_is_the_integer_one_and_close_to_the_float_one(kernel, stride):
    conv = nn.Conv2d(6, 5, kernel, stride, padding=kernel // 2)
    layer, x = FixedConv2d.from_float(conv), activations(6, 9, 11)
    out = layer(x)
    assert torch.equal(out.long(), int64_conv(layer, x))
    with torch.no_grad():
        real = conv((x / ONE).float()[None])[0]
    assert (out / ONE - real).abs().max() < 2e-3


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 2), (4, 2), (3, 1), (5, 4)])
def test_transposed_convolution_is_the_integer_one_and_close_to_the_float_one(kernel, stride):
    conv = nn.ConvTranspose2d(6, 5, kernel, stride, padding=kernel // 2, output_padding=stride - 1)
    layer, x = FixedConvTranspose2d.from_float(conv), activations(6, 5, 7)
    out = layer(x)
    assert torch.equal(out.long(), int64_conv_transpose(layer, x))
    with torch.no_grad():
        real = conv((x / ONE).float()[None])[0]
    assert (out / ONE - real).abs().max() < 2e-3


@pytest.mark.parametrize(
    ("conv", "reference"),
    [
        (nn.Conv2d(6, 9, 3, 2, 1, groups=3), int64_conv),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), int64_conv),
        (nn.ConvTranspose2d(6, 4, 5, 2, 2, 1, groups=2), int64_conv_transpose),
        (nn.ConvTranspose2d(4, 8, 3, 1, 1, groups=2), int64_conv_transpose),
    ],
    ids=str,
)
def test_groups_are_integer_convolutions_side_by_side(conv, reference):
    with torch.no_grad():
        conv.weight[0] *= 50  # so that the groups have different shifts
        layer, x = FixedGroups.from_float(conv), activations(conv.in_channels, 6, 7)
        real = conv((x / ONE).float()[None])[0]
    out, size = layer(x), conv.in_channels // conv.groups
    parts = [reference(part, share) for part, share in zip(layer, x.split(size), strict=True)]
    assert torch.equal(out.long(), torch.cat(parts))
    assert (out / ONE - real).abs().max() < 3e-2
    assert layer[0].shift < layer[1].shift
    network = FixedNetwork.from_float(nn.Sequential(conv, nn.ReLU()))
    assert network.channels() == (conv.in_channels, conv.out_channels)
    again = FixedNetwork.from_config(network.config())
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), out.clamp(min=0))


@pytest.mark.parametrize("columns", [1, 7, 50])
def test_strips_of_a_large_picture_change_nothing(monkeypatch, columns):
    conv = FixedConv2d.from_float(nn.Conv2d(4, 6, 5, stride=2, padding=2))
    up = FixedConvTranspose2d.from_float(nn.ConvTranspose2d(6, 40, 5, 2, 2, 1))
    x = activations(4, 30, 22)
    whole = up(conv(x))
    monkeypatch.setattr(convolutions, "COLUMNS", columns)
    assert torch.equal(up(conv(x)), whole)


def test_extreme_activations_and_weights_stay_exact():
    conv = nn.Conv2d(64, 3, 3, padding=1)
    with torch.no_grad():
        conv.weight.uniform_(0.9, 1.0).mul_(torch.randn_like(conv.weight).sign())
        conv.bias.fill_(1000)
    layer = FixedConv2d.from_float(conv)
    signs = activations(64, 8, 8).sign()
    x = torch.where(signs == 0, 1, signs) * ACTIVATION_BOUND
    assert torch.equal(layer(x).long(), int64_conv(layer, x))


def test_the_proof_refuses_sums_beyond_the_exact_range():
    ones = torch.full((1, 4096), 2**15 - 1)
    check_accumulator(ones[:, :4095], torch.tensor([0]), 15, "conv")
    with pytest.raises(CodecError, match=r"2\*\*53"):
        check_accumulator(ones.repeat(1, 2), torch.tensor([0]), 15, "conv")
    conv = nn.Conv2d(1024, 1, 3)
    nn.init.constant_(conv.weight, 0.99)
    with pytest.raises(CodecError, match="conv: a sum could reach"):
        FixedConv2d.from_float(conv)


def test_a_loaded_layer_is_proved_again_before_use():
    layer = FixedConv2d(16384, 1, 1, 1, 0, 0)
    state = layer.state_dict()
    layer.load_state_dict({**state, "weight": torch.full_like(state["weight"], 2**15 - 1)})
    with pytest.raises(CodecError, match=r"2\*\*53"):
        layer(torch.zeros(16384, 1, 1, dtype=torch.float64))


def test_loading_new_weights_replaces_the_unpacked_ones():
    first, second = (FixedConv2d.from_float(nn.Conv2d(3, 3, 3, padding=1)) for _ in range(2))
    x = activations(3, 4, 4)
    first(x)
    second.shift = first.shift
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_weights_that_do_not_fit_are_refused(value):
    conv = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        conv.weight[0, 0] = value
    with pytest.raises(CodecError, match="16 bits"):
        FixedConv2d.from_float(conv)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias[0] = value
    with pytest.raises(CodecError, match="16 bits"):
        FixedConv2d.from_float(conv)


def test_devices_without_float64_leave_it_to_the_cpu():
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_zero_weights_and_no_bias_and_a_huge_bias_beside_tiny_weights():
    conv = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.zeros_(conv.weight)
    x = activations(2, 3, 3)
    assert not FixedConv2d.from_float(conv)(x).any()
    tiny = nn.Conv2d(2, 2, 1)
    nn.init.constant_(tiny.weight, 1e-9)
    nn.init.constant_(tiny.bias, 3000.25)
    assert torch.equal(
        FixedConv2d.from_float(tiny)(x), torch.full((2, 3, 3), 3000.25 * ONE).double()
    )


@pytest.mark.parametrize("cls", [MaskedConv2d, CheckerboardMaskedConv2d])
def test_masks_are_applied(cls):
    conv, x = cls(4, 4, 5, padding=2), activations(4, 6, 6)
    with torch.no_grad():
        out = FixedConv2d.from_float(conv)(x)  # before a forward pass has masked the weight
        real = conv((x / ONE).float()[None])[0]
    assert (out / ONE - real).abs().max() < 2e-3


@pytest.mark.parametrize("parity", ["even", "odd"])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
@pytest.mark.parametrize("cls", [CheckerboardMaskedConv2d, nn.Conv2d])
def test_context_at_positions_is_the_whole_convolution_there(cls, parity, size):
    conv = cls(4, 6, 5, padding=2)
    anchors, others = positions(*size, parity)
    assert sorted([*anchors.tolist(), *others.tolist()]) == list(range(size[0] * size[1]))
    assert (0 in anchors.tolist()) == (parity == "even")
    y_hat = torch.zeros(4, size[0] * size[1], dtype=torch.float64)
    y_hat[:, anchors] = activations(4, anchors.numel())
    y_hat = y_hat.view(4, *size)
    context = FixedContext.from_float(conv)
    with torch.no_grad():
        real = conv((y_hat / ONE).float()[None])[0].flatten(1)[:, others]
    assert context.weight.shape == (6, 4, 12)
    assert (context(y_hat, others) / ONE - real).abs().max() < 2e-3


def test_leaky_relu_is_an_integer_product():
    x = torch.arange(-(2**17), 2**17)
    got = FixedLeakyReLU.from_float(nn.LeakyReLU())(x.double())
    assert torch.equal(got.long(), torch.where(x >= 0, x, (x * 655 + 32768) >> 16))
    assert torch.equal(FixedLeakyReLU.from_float(nn.ReLU())(x.double()).long(), x.clamp(min=0))
    edge = torch.tensor([-ACTIVATION_BOUND, ACTIVATION_BOUND])
    got = FixedLeakyReLU(655)(edge.double()).long()
    assert got.tolist() == [(-ACTIVATION_BOUND * 655 + 32768) >> 16, ACTIVATION_BOUND]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_table_is_within_half_a_step(approximate):
    x = torch.arange(-8 * ONE, 8 * ONE).double()
    layer = FixedGELU.from_float(nn.GELU(approximate))
    real = F.gelu(x / ONE, approximate=approximate) * ONE
    assert (layer(x.clone()) - real).abs().max() <= 0.5 + 1e-6
    edge = torch.tensor([-ACTIVATION_BOUND, ACTIVATION_BOUND]).double()
    assert layer(edge).tolist() == [0, ACTIVATION_BOUND]


def test_network_from_float_from_config_and_both_agree():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.LeakyReLU(inplace=True),
        nn.Sequential(subpel_conv3x3(8, 6, 2), nn.GELU()),
        nn.ConvTranspose2d(6, 5, 5, 2, 2, 1),
        nn.ReLU(inplace=True),
        nn.Identity(),
    )
    fixed = FixedNetwork.from_float(net)
    assert fixed.channels() == (4, 5)
    x = activations(4, 6, 5, deviation=1.0)
    with torch.no_grad():
        real = net((x / ONE).float()[None])[0]
    assert (fixed(x) / ONE - real).abs().max() < 5e-3
    again = FixedNetwork.from_config(fixed.config())
    again.load_state_dict(fixed.state_dict())
    assert torch.equal(again(x), fixed(x))


def test_columns_leave_out_inputs_that_are_zero():
    net = nn.Sequential(nn.Conv2d(6, 4, 1), nn.LeakyReLU(), nn.Conv2d(4, 2, 1))
    fixed, x = FixedNetwork.from_float(net), activations(4, 1, 9)
    before, after = torch.cat([x[:2] * 0, x]), torch.cat([x, x[:2] * 0])
    assert torch.equal(fixed.columns(x.flatten(1), skip=2), fixed(before).flatten(1))
    assert torch.equal(fixed.columns(x.flatten(1)), fixed(after).flatten(1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, (1, 3)),
        nn.Conv2d(4, 4, (1, 3), groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=2),
    ],
)
def test_convolutions_of_another_kind_are_refused(layer):
    with pytest.raises(CodecError, match="square"):
        FixedNetwork.from_float(layer)


def test_layers_without_a_fixed_form_are_refused():
    with pytest.raises(NotPortableError, match="Softmax has no fixed-point form"):
        FixedNetwork.from_float(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Softmax()))
    with pytest.raises(CodecError, match="slope"):
        FixedNetwork.from_float(nn.LeakyReLU(1.5))
    with pytest.raises(NotPortableError, match="pointwise"):
        FixedNetwork.from_float(nn.Conv2d(2, 2, 3)).check_pointwise()
    with pytest.raises(NotPortableError, match="context"):
        FixedContext.from_float(nn.Conv2d(2, 2, 4, padding=2))


CONV = {
    "kind": "conv", "inputs": 2, "outputs": 3, "kernel": 3, "stride": 1, "padding": 1, "shift": 9
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        None, {}, [], "conv", [None], [{}], [{"kind": "softmax"}], [{"kind": ["conv"]}], [CONV] * 2,
        [{"kind": "pixel_shuffle", "factor": 2}], [{**CONV, "outputs": -1}],
        [{**CONV, "outputs": 2**40}], [{**CONV, "kernel": True}], [{**CONV, "kernel": 2.5}],
        [{**CONV, "shift": 99}], [{**CONV, "padding": 9}], [{**CONV, "stride": 0}],
        [{**CONV, "inputs": 2**14, "outputs": 2**14, "kernel": 31}], [CONV] * 1000,
        [CONV, {"kind": "pixel_shuffle", "factor": 2}],
        [{"kind": "groups"}], [{"kind": "groups", "parts": [CONV]}],
        [{"kind": "groups", "parts": [CONV, {**CONV, "outputs": 4}]}],
        [{"kind": "groups", "parts": [CONV, {"kind": "groups", "parts": [CONV, CONV]}]}],
        [{"kind": "groups", "parts": [CONV] * 300}], [{"kind": "groups", "parts": [CONV] * 2}] * 2,
    ],
)  # fmt: skip
def test_hostile_configs_are_checkpoint_errors(config):
    with pytest.raises(CheckpointError):
        FixedNetwork.from_config(config).channels()
