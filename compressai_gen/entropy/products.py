"""Products of integer matrices: exact, on every device, and as fast as the processor can.

Integers in float64 are exact and everywhere, but processors multiply bytes ten times faster. Where
they do (AVX-512 VNNI), both factors are split into *planes* of signed bytes, ``x = sum 256^j x_j``,
and

.. code-block:: none

    W x  =  sum_s 256^s ( W_0 x_s + W_1 x_(s-1) + ... )

is one product of bytes for every s, summed in 32 bits. Both ways give the same integers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

LONGEST = 2**15
"""Terms of a sum, at most, whose products of bytes (below 2**14 each, three planes) fit 32 bits."""


def multiplies_bytes(device: torch.device) -> bool:
    """Whether products of bytes are faster than those of float64, now: oneDNN can be off."""
    one_dnn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return device.type == "cpu" and one_dnn and processor_does()


@cache
def processor_does() -> bool:
    """Whether the processor multiplies bytes."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)  # not in the oldest torch
    return bool(capabilities().get("avx512_vnni"))


def bytes_of(integers: Tensor) -> list[Tensor]:
    """Planes of signed bytes, int8, lowest first, as many as the largest integer needs.

    Args:
        integers: below 2**31 - 2**7 in magnitude, any dtype and shape.
    """
    rest = integers.to(torch.int32)
    planes: list[Tensor] = []
    while not planes or rest.any():
        planes.append(rest.to(torch.int8))  # wraps around: the lowest byte, signed
        rest = (rest - planes[-1]) >> 8
    return planes


def weight_planes(matrix: Tensor, device: torch.device) -> Tensor:
    """A weight matrix (outputs, inputs) of integers, prepared for :func:`product`.

    Returns:
        (outputs, planes, inputs): int8, lowest plane first, or one plane of float64.
    """
    matrix = matrix.to(device)
    if matrix.size(1) < LONGEST and multiplies_bytes(device):
        return torch.stack(bytes_of(matrix), dim=1)
    return matrix.double()[:, None].contiguous()


def usable(weight: Tensor, device: torch.device) -> bool:
    """Whether prepared weights still are the right ones for a device."""
    return weight.device == device and (weight.dtype != torch.int8 or multiplies_bytes(device))


def planes_for(weight: Tensor, x: Tensor) -> Tensor:
    """Activations, prepared for a product with ``weight``.

    Args:
        weight: from :func:`weight_planes`.
        x: integers in float64, any shape.

    Returns:
        (planes, *shape): int8, highest plane first, or one plane of float64.
    """
    if weight.dtype == torch.int8:
        return torch.stack(bytes_of(x)[::-1])
    return x[None]


def product(weight: Tensor, x: Tensor) -> Tensor:
    """``weight @ x``, (outputs, P), integers in float64.

    Args:
        weight: (outputs, planes, inputs), from :func:`weight_planes`, or some of its inputs.
        x: (planes, inputs, P), from :func:`planes_for`; no partial sum may reach 2**53.
    """
    if x.dtype != torch.int8:
        return weight[:, 0] @ x[0]
    lows, highs = weight.size(1) - 1, x.size(0) - 1
    total: Tensor | None = None
    for s in range(lows + highs, -1, -1):
        first, last = max(0, s - highs), min(lows, s)  # of the weight's planes; x has s - them
        top = highs - s + first
        own, other = weight[:, first : last + 1], x[top : top + last - first + 1]
        part = torch._int_mm(own.flatten(1), other.flatten(0, 1))
        # every step is the sum without its lowest bytes: a smaller integer than the exact one
        total = part.double() if total is None else total.mul_(256).add_(part)
    assert total is not None
    return total
