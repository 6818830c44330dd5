"""Grids of latents to bytes and back with the integers of an autoregressive model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compressai_gen.errors import CodecError, CorruptedFileError
from compressai_gen_plugins.overfitted import fronts, kernels
from compressai_gen_plugins.overfitted.arm_tables import tables
from compressai_gen_plugins.overfitted.coolchic import Arm
from compressai_gen_plugins.overfitted.coolchic_versions import offsets

Grid = npt.NDArray[np.int64]

WEIGHT_LIMIT = 2**12
"""Of weights and biases; `kernels` relies on it."""


@dataclass(frozen=True)
class IntegerArm:
    """The model in integers, the same on every machine.

    Attributes:
        radius: of the neighbourhood.
        places: rows and columns of the neighbours, (C, 2).
        model: weights and biases as `kernels.law` takes them.
        tails: which `arm_tables`.
    """

    radius: int
    places: Grid
    model: tuple[Grid, ...]
    tails: bool


@torch.no_grad()
def integer_arm(arm: Arm, tails: bool = True) -> IntegerArm:
    """The integers of a model whose weights are multiples of 2**-8, and biases of 2**-16.

    Raises:
        CodecError: for weights that are not finite, or too large.
    """
    arrays = []
    for layer in arm.layers:
        weight = layer.weight.double().cpu()
        if layer.out_features == layer.in_features:
            weight = weight + torch.eye(layer.in_features, dtype=torch.float64)
        for values, bits in ((weight.T, kernels.BITS), (layer.bias.cpu(), 2 * kernels.BITS)):
            scaled = (values.double() * 2.0**bits).round()
            if not bool(scaled.isfinite().all()) or float(values.abs().max()) >= WEIGHT_LIMIT:
                raise CodecError("the autoregressive model has weights that are out of range")
            arrays.append(np.ascontiguousarray(scaled.numpy().astype(np.int64)))
    places = np.array(offsets(arm.radius), np.int64)
    return IntegerArm(arm.radius, places, tuple(arrays), tails)


def encode(grid: Tensor, arm: IntegerArm) -> tuple[bytes, Tensor]:
    """The bytes of a grid of integers (h, w), and the grid that a decoder gets: the same but for
    latents that lie more than 127 from their mean. A grid of zeros has no bytes.
    """
    if not bool(grid.any()):
        return b"", grid.clone()
    padded = _padded(grid.shape[0], grid.shape[1], arm.radius)
    inner = padded[arm.radius :, arm.radius : arm.radius + grid.shape[1]]
    inner[:] = grid.cpu().numpy()
    if kernels.njit is None:
        data = fronts.encode_grid(padded, arm.radius, arm.places, arm.model, arm.tails)
    else:
        out = np.zeros(4 * grid.numel() + 64, np.uint8)
        count = kernels.encode_grid(
            padded, arm.radius, arm.places, arm.model, tables(arm.tails), out
        )
        if count < 0:
            raise CodecError("the latents of a grid do not fit their buffer; nothing was written")
        data = out[1:count].tobytes()
    return data.rstrip(b"\0") or b"\0", torch.from_numpy(inner.copy()).to(grid)


def decode(data: bytes, height: int, width: int, arm: IntegerArm) -> Tensor:
    """The grid (height, width) of bytes of :func:`encode`, int64.

    Raises:
        CorruptedFileError: if no encoder wrote them, or they go on where the grid ends.
    """
    if not data:
        return torch.zeros(height, width, dtype=torch.int64)
    padded = _padded(height, width, arm.radius)
    if kernels.njit is None:
        taken = fronts.decode_grid(padded, arm.radius, arm.places, arm.model, arm.tails, data)
    else:
        octets = np.frombuffer(data, np.uint8).astype(np.int64)
        taken = kernels.decode_grid(
            padded, arm.radius, arm.places, arm.model, tables(arm.tails), octets
        )
    if taken < 0:
        raise CorruptedFileError("the data of a grid are none that an encoder writes")
    if taken < len(data):
        raise CorruptedFileError("the data of a grid go on where the grid ends")
    return torch.from_numpy(padded[arm.radius :, arm.radius : arm.radius + width].copy())


def _padded(height: int, width: int, radius: int) -> Grid:
    return np.zeros((height + radius, width + 2 * radius), np.int64)
