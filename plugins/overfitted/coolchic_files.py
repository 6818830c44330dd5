"""The chunks of a COOL-CHIC file: steps and distributions, weights, then every grid by itself."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from compressai_gen.errors import CodecError, CorruptedFileError
from compressai_gen_plugins.overfitted import arm_coding, arm_tables
from compressai_gen_plugins.overfitted.coolchic import CoolChic, grid_sizes
from compressai_gen_plugins.overfitted.coolchic_versions import GRIDS, Version
from compressai_gen_plugins.overfitted.coolchic_weights import FINEST, Steps, levels, put, tensors
from compressai_gen_plugins.overfitted.weights import pack_levels, unpack_levels

TAILS = 0x80
"""In the first byte of a file whose laws have tails; older ones have none."""

STEPS = len(vars(Steps()))
FINEST_BITS = tuple(vars(Steps()).values())


@torch.no_grad()
def write(network: CoolChic, steps: Steps) -> tuple[list[bytes], int]:
    """The chunks of a file, and the CRC32 of all integers in it.

    The network's weights are those of the file already (`coolchic_weights.put`).
    """
    rows, stream, crc = pack_levels(levels(network, steps))
    arm = arm_coding.integer_arm(network.arm)
    first, *others = vars(steps).values()
    chunks = [bytes([first | TAILS, *others]) + rows, stream]
    for latents in network.latents(torch.round):
        data, sent = arm_coding.encode(latents[0, 0].long().cpu(), arm)
        chunks.append(data)
        crc = zlib.crc32(sent.numpy().astype("<i4").tobytes(), crc)
    return chunks, crc


@torch.no_grad()
def read(
    chunks: Sequence[bytes], version: Version, height: int, width: int
) -> tuple[CoolChic, list[Tensor], int]:
    """Network and integer latents of a file, float32, and the CRC32 of all integers.

    The grids are independent and are decoded side by side.

    Raises:
        CorruptedFileError: if the chunks cannot have come from :func:`write`.
    """
    if len(chunks) != 2 + GRIDS:
        raise CorruptedFileError(f"{version.name} files have {2 + GRIDS} chunks, not {len(chunks)}")
    given, rows = chunks[0][:STEPS], chunks[0][STEPS:]
    tails = bool(given[:1] and given[0] & TAILS)
    given = bytes([given[0] & ~TAILS, *given[1:]]) if tails else given
    if len(given) < STEPS or any(a > b for a, b in zip(given, FINEST_BITS, strict=True)):
        raise CorruptedFileError(f"the steps of the weights are finer than 2**-{FINEST}")
    with torch.device("meta"):
        shapes = [p.shape for p, _ in tensors(CoolChic(version, 1, 1))]
    values, crc = unpack_levels(rows, chunks[1], shapes)
    with torch.random.fork_rng(devices=[]):  # the caller's numbers are the caller's
        network, steps = CoolChic(version, 1, 1), Steps(*given)
    put(network, values, steps)
    try:
        arm = arm_coding.integer_arm(network.arm, tails)
    except CodecError as error:
        raise CorruptedFileError(str(error)) from error
    arm_tables.tables(tails)  # now, or every thread would build them
    sizes = grid_sizes(height, width)
    with ThreadPoolExecutor() as pool:
        grids = list(pool.map(lambda d, s: arm_coding.decode(d, *s, arm), chunks[2:], sizes))
    for grid in grids:
        crc = zlib.crc32(grid.numpy().astype("<i4").tobytes(), crc)
    return network.eval(), [grid[None, None].float() for grid in grids], crc
