"""Convolutions in fixed point: integers in float64 in and out, without a batch axis.

They are im2col followed by a matrix product on every device (see
:mod:`compressai_gen.entropy.products`): Winograd and FFT kernels, which cuDNN may choose for a
convolution, are not exact.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import (
    FRACTION_BITS,
    WEIGHT_BOUND,
    check_accumulator,
    config_int,
    requantise_,
    to_float64,
)
from compressai_gen.entropy.products import planes_for, product, usable, weight_planes
from compressai_gen.errors import CheckpointError, CodecError

COLUMNS = 4096
"""Width of the matrices im2col makes, at most (or one row): bounds memory on large pictures."""


def quantise_weights(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """Real weights to 16 bit integers with a common power of two.

    Args:
        weight: shape (outputs, ...).
        bias: shape (outputs,), or None for zero.

    Returns:
        Weights (int16, ``round(weight * 2**shift)``), bias (int64, in accumulator units) and shift.

    Raises:
        CodecError: if a weight or a bias is not finite, or 2**15 or larger.
    """
    weight = weight.detach().double().cpu()
    real_bias = weight.new_zeros(weight.size(0)) if bias is None else bias.detach().double().cpu()
    peak, offset = float(weight.abs().max()), float(real_bias.abs().max())
    if not (peak < 2**15 and offset < 2**15):  # also catches NaN
        raise CodecError(f"a weight of {peak:g} or a bias of {offset:g} does not fit 16 bits")
    shift = min(15 - math.frexp(peak)[1], 50 - FRACTION_BITS - math.frexp(offset)[1], 30)
    integers = (weight * 2.0**shift).round().clamp(-WEIGHT_BOUND, WEIGHT_BOUND)
    fixed_bias = (real_bias * 2.0 ** (shift + FRACTION_BITS)).round()
    return integers.to(torch.int16), fixed_bias.long(), shift


class FixedWeights(nn.Module):
    """Integer weights with bias and shift, stored compactly and prepared when used."""

    kind: ClassVar[str] = "weights"
    weight: Tensor
    bias: Tensor

    def __init__(self, shape: tuple[int, ...], outputs: int, shift: int) -> None:
        super().__init__()
        if math.prod(shape) > 2**26:
            raise CheckpointError(f"fixed-point config: a weight of shape {shape} is absurd")
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int16))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.int64))
        self.shift = shift
        self._prepared: tuple[Tensor, Tensor] | None = None

    def matrix(self) -> Tensor:
        """The weights as a matrix with one row for each output of the matrix product."""
        return self.weight.flatten(1)

    def by_output(self) -> Tensor:
        """The weights, shape (outputs, ...): everything a sum for one output can contain."""
        return self.weight

    def channels(self) -> tuple[int, int]:
        """Channels that go in and that come out."""
        outputs, inputs = self.by_output().shape[:2]
        return inputs, outputs

    def fill(self, weight: Tensor, bias: Tensor) -> None:
        """Set the integers and prove that the sums stay exact."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self._prepared = None
        self.verify()

    def real(self) -> tuple[Tensor, Tensor]:
        """What weights and bias stand for, float32, shaped as they are stored."""
        weight = self.weight.double() * 2.0**-self.shift
        bias = self.bias.double() * 2.0 ** -(self.shift + FRACTION_BITS)
        return weight.float(), bias.float()

    def verify(self) -> None:
        """Raises CodecError if a partial sum could leave the exact range."""
        check_accumulator(self.by_output(), self.bias, self.shift, f"fixed-point {self.kind}")

    def prepared(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Weight planes and bias column on ``device``; proved once, then cached."""
        if self._prepared is None or not usable(self._prepared[0], device):
            self.verify()
            bias = to_float64(self.bias, device).unsqueeze(1)
            self._prepared = weight_planes(self.matrix(), device), bias
        return self._prepared

    def planes(self, x: Tensor) -> Tensor:
        """Activations of any shape, ready for :meth:`times` once they are columns."""
        return planes_for(self.prepared(x.device)[0], x)

    def times(self, x: Tensor, skip: int = 0) -> Tensor:
        """``requantise(weight @ x + bias)``, shape (outputs, P), of planes (planes, inputs, P)."""
        weight, bias = self.prepared(x.device)
        used = weight[:, :, skip : skip + x.size(1)]
        return requantise_(product(used, x).add_(bias), self.shift)

    def columns(self, x: Tensor, skip: int = 0) -> Tensor:
        """``requantise(weight @ x + bias)``.

        Args:
            x: shape (inputs, P).
            skip: number of leading inputs that are zero and therefore left out of ``x``.

        Returns:
            shape (outputs, P).
        """
        return self.times(self.planes(x), skip)

    def _apply(self, fn: Any, recurse: bool = True) -> FixedWeights:
        self._prepared = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._prepared = None
        super()._load_from_state_dict(*args, **kwargs)


class FixedConv2d(FixedWeights):
    """Convolution with square kernel, any stride and zero padding.

    Args:
        inputs, outputs: channels.
        kernel, stride, padding: as in ``nn.Conv2d``.
        shift: of the requantisation, 0 to 30.
    """

    kind: ClassVar[str] = "conv"

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, shift: int
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), outputs, shift)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(inputs, H, W) to (outputs, H', W')."""
        kernel, stride = self.kernel, self.stride
        planes = F.pad(self.planes(x), (self.padding,) * 4)
        height, width = ((n - kernel) // stride + 1 for n in planes.shape[2:])
        out = x.new_empty(self.weight.size(0), height, width)
        rows = max(1, COLUMNS // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            strip = planes[:, :, top * stride : (bottom - 1) * stride + kernel]
            out[:, top:bottom] = self.times(windows(strip, kernel, stride)).unflatten(
                1, (-1, width)
            )
        return out

    def config(self) -> dict[str, Any]:
        outputs, inputs = self.weight.shape[:2]
        size = {"inputs": inputs, "outputs": outputs, "kernel": self.kernel}
        return {**size, "stride": self.stride, "padding": self.padding, "shift": self.shift}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedConv2d:
        kernel = config_int(config, "kernel", 1, 31)
        return cls(
            inputs=config_int(config, "inputs", 1, 2**14),
            outputs=config_int(config, "outputs", 1, 2**14),
            kernel=kernel,
            stride=config_int(config, "stride", 1, 16),
            padding=config_int(config, "padding", 0, kernel // 2),
            shift=config_int(config, "shift", 0, 30),
        )

    @classmethod
    def from_float(cls, conv: nn.Conv2d) -> FixedConv2d:
        """The convolution in fixed point; a mask (``MaskedConv2d``) is applied to its weights."""
        plain = conv.groups == 1 and conv.padding_mode == "zeros"
        kernel, stride, padding = _square(conv, plain and not isinstance(conv.padding, str))
        integers, bias, shift = quantise_weights(masked_weight(conv), conv.bias)
        layer = cls(conv.in_channels, conv.out_channels, kernel, stride, padding, shift)
        layer.fill(integers, bias)
        return layer


class FixedConvTranspose2d(FixedWeights):
    """Transposed convolution with square kernel: a matrix product, then overlapping addition.

    Args:
        inputs, outputs: channels.
        kernel, stride, padding, output_padding: as in ``nn.ConvTranspose2d``.
        shift: of the requantisation, 0 to 30.
    """

    kind: ClassVar[str] = "conv_transpose"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        padding: int,
        output_padding: int,
        shift: int,
    ) -> None:
        super().__init__((inputs, outputs, kernel, kernel), outputs, shift)
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.output_padding = output_padding

    def matrix(self) -> Tensor:
        return self.weight.flatten(1).t()

    def by_output(self) -> Tensor:
        return self.weight.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(inputs, H, W) to (outputs, H', W')."""
        weight, bias = self.prepared(x.device)
        outputs, taps = bias.size(0), self.kernel**2
        margin = self.kernel + self.output_padding - 2 * self.padding
        size = tuple((n - 1) * self.stride + margin for n in x.shape[1:])
        planes = self.planes(x).flatten(2)
        group = max(1, COLUMNS * 512 // (taps * planes.size(2)))
        out = x.new_empty(outputs, *size)
        for first in range(0, outputs, group):
            last = min(first + group, outputs)
            products = product(weight[first * taps : last * taps], planes)
            sums = F.fold(products, size, self.kernel, padding=self.padding, stride=self.stride)
            sums += bias[first:last, :, None]
            out[first:last] = requantise_(sums, self.shift)
        return out

    def config(self) -> dict[str, Any]:
        inputs, outputs = self.weight.shape[:2]
        size = {"inputs": inputs, "outputs": outputs, "kernel": self.kernel}
        place = {"padding": self.padding, "output_padding": self.output_padding}
        return {**size, "stride": self.stride, **place, "shift": self.shift}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedConvTranspose2d:
        kernel = config_int(config, "kernel", 1, 31)
        stride = config_int(config, "stride", 1, 16)
        return cls(
            inputs=config_int(config, "inputs", 1, 2**14),
            outputs=config_int(config, "outputs", 1, 2**14),
            kernel=kernel,
            stride=stride,
            padding=config_int(config, "padding", 0, kernel // 2),
            output_padding=config_int(config, "output_padding", 0, stride - 1),
            shift=config_int(config, "shift", 0, 30),
        )

    @classmethod
    def from_float(cls, conv: nn.ConvTranspose2d) -> FixedConvTranspose2d:
        """The transposed convolution in fixed point."""
        same = conv.groups == 1 and len(set(conv.output_padding)) == 1
        kernel, stride, padding = _square(conv, same)
        integers, bias, shift = quantise_weights(conv.weight.transpose(0, 1), conv.bias)
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            kernel,
            stride,
            padding,
            int(conv.output_padding[0]),
            shift,
        )
        layer.fill(integers.transpose(0, 1), bias)
        return layer


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """im2col for any type: (planes, C, H, W) to (planes, C kernel^2, H' W')."""
    places = x.unfold(2, kernel, stride).unfold(3, kernel, stride)  # (planes, C, H', W', k, k)
    return places.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)


def masked_weight(conv: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """The weight a ``MaskedConv2d`` computes with, or that of a plain convolution."""
    mask = getattr(conv, "mask", None)
    return conv.weight if mask is None else conv.weight * mask


def _square(conv: nn.Conv2d | nn.ConvTranspose2d, supported: bool) -> tuple[int, int, int]:
    """Kernel, stride and padding of a convolution that is the same in both directions."""
    sizes = (conv.kernel_size, conv.stride, conv.padding)
    if not supported or set(conv.dilation) != {1} or any(len(set(s)) != 1 for s in sizes):
        raise CodecError(
            f"{conv} has no fixed-point form: kernel, stride and padding must be square, "
            "without groups or dilation"
        )
    kernel, stride, padding = (int(size[0]) for size in sizes)
    return kernel, stride, padding
