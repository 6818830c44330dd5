"""The payload of a NIF file: the network's widths, the bounds of its tensors, its weights."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch

from compressai_gen.errors import CorruptedFileError
from compressai_gen_plugins.overfitted.nif import Nif, Sizes
from compressai_gen_plugins.overfitted.weights import pack_tensors, unpack_tensors

MAX_LAYERS, MAX_WIDTH = 8, 1024


def write(network: Nif) -> tuple[list[bytes], int]:
    """Two chunks, widths with bounds and weights, and the CRC32 of the rounded weights."""
    side, stream, crc = pack_tensors(list(network.parameters()))
    lists = (network.sizes.hidden, network.sizes.modulator)
    widths = b"".join(struct.pack(f">B{len(w)}H", len(w), *w) for w in lists)
    return [widths + side, stream], crc


def read(chunks: Sequence[bytes]) -> tuple[Nif, int]:
    """The network of a file, and the CRC32 of its rounded weights.

    Raises:
        CorruptedFileError: if the chunks cannot have come from :func:`write`.
    """
    if len(chunks) != 2:
        raise CorruptedFileError(f"a NIF file has two chunks, this one {len(chunks)}")
    hidden, rest = _widths(chunks[0])
    modulator, side = _widths(rest)
    with torch.device("meta"):
        shapes = [p.shape for p in Nif(Sizes(hidden, modulator)).parameters()]
    tensors, crc = unpack_tensors(side, chunks[1], shapes)
    with torch.random.fork_rng(devices=[]):  # the caller's numbers are the caller's
        network = Nif(Sizes(hidden, modulator))
    with torch.no_grad():
        for parameter, tensor in zip(network.parameters(), tensors, strict=True):
            parameter.copy_(tensor)
    return network.eval(), crc


def _widths(data: bytes) -> tuple[tuple[int, ...], bytes]:
    """A list of widths, and what comes after it."""
    count = data[0] if data else 0
    end = 1 + 2 * count
    if not 1 <= count <= MAX_LAYERS or len(data) < end:
        raise CorruptedFileError("the widths of the network are missing, or too many")
    widths = struct.unpack(f">{count}H", data[1:end])
    if not all(1 <= width <= MAX_WIDTH for width in widths):
        raise CorruptedFileError(f"a network of widths {widths} is out of range")
    return widths, data[end:]
