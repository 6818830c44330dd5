"""Noise that is a function of the file: the same numbers on every machine, device and version."""

from __future__ import annotations

import functools
import math
import operator
import statistics
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from compressai_gen.errors import OptionError

GRID = 4096  # quantiles are multiples of 1 / GRID, hence exact in float32
INDICES = 1 << 16
SEEDS = 1 << 64

Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


@functools.cache
def quantiles() -> np.ndarray:
    """The normal quantiles of ``(i + 0.5) / 65536``, int16 in steps of 1/4096, ascending.

    Rounding hides the last bits in which mathematical libraries differ: no quantile lies closer
    than 1e-5 of a step to the middle between two. The upper half mirrors the lower one, so the
    mean is exactly zero; the largest is 4.325 and the variance 0.99998.
    """
    normal = statistics.NormalDist()
    lower = [round(GRID * normal.inv_cdf((i + 0.5) / INDICES)) for i in range(INDICES // 2)]
    return np.array(lower + [-value for value in reversed(lower)], dtype=np.int16)


def counter_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise from integers alone.

    A torch generator gives other numbers on a GPU than on the CPU, and may with another version.
    Here the 64-bit words of the counter-based generator Philox, whose stream numpy keeps for ever,
    are cut into 16-bit indices of a table, low bits first.

    Args:
        seed: 0 to 2**64 - 1; for a file, the one of its `DecodedLatents`.
        shape: of the result.

    Returns:
        float32 on the CPU, values on a grid of 1/4096.

    Raises:
        OptionError: for another seed.

    Example:
        >>> counter_noise(0, (3,)).mul(4096).int().tolist()
        [4178, -7436, 2487]
    """
    count = math.prod(shape)
    words = np.random.Philox(key=check_seed(seed)).random_raw(-(-count // 4))
    indices = np.asarray(words).astype("<u8").view("<u2")[:count]
    return (
        torch.from_numpy(quantiles()[indices].astype(np.float32)).div_(GRID).reshape(tuple(shape))
    )


def step_generator(seed: int) -> torch.Generator:
    """A generator on the CPU for the noise that a stochastic scheduler draws in its steps.

    diffusers draws with it on the CPU and moves the result, so that every device gets the same.
    """
    return torch.Generator().manual_seed(check_seed(seed))


def drawn_seeds(generator: Generators, count: int) -> list[int] | list[None]:
    """A seed for each of ``count`` pictures from a caller's generator, or from one for each.

    Without a generator they are None, for the files' own noise.

    Raises:
        OptionError: a list of another length, or something else than generators.
    """
    if generator is None:
        return [None] * count
    each = [generator] * count if isinstance(generator, torch.Generator) else generator
    if not isinstance(each, Sequence) or not all(isinstance(g, torch.Generator) for g in each):
        raise OptionError(f"generator {generator!r:.60}: give a torch.Generator or a list of them")
    if len(each) != count:
        raise OptionError(
            f"{len(each)} generators for {count} pictures: give one for each, or one for all"
        )
    return [int(torch.randint(SEEDS // 2 - 1, (), generator=g, device=g.device)) for g in each]


def check_seed(seed: int) -> int:
    """``seed``, if it is one.

    Raises:
        OptionError: not an integer from 0 to 2**64 - 1.
    """
    number = integer(seed)
    if not 0 <= number < SEEDS:
        raise OptionError(f"seed {seed!r}: give an integer from 0 to 2**64 - 1")
    return number


def integer(value: Any) -> int:
    """An integer of Python's or numpy's as Python's; -1 for anything else."""
    try:
        return -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return -1
