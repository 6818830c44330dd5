"""Integer distributions of latents: Laplace laws by scale and fraction of the mean.

Made with the `decimal` module and integers alone, so that they are the same on every machine.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

PRECISION = 20
"""Bits of the frequencies."""

REACH = 127
"""A symbol is the distance from the rounded mean, at most REACH either way."""

SCALES = 128
FRACTION_BITS = 4
FRACTIONS = 1 << FRACTION_BITS
LOG_SCALE_LOW, LOG_SCALE_HIGH = -7, 5
"""Natural logarithm of the scale of the first and of the last row, evenly spaced."""

SYMBOLS = 2 * REACH + 1
_UNIT = 2**80


@lru_cache(maxsize=1)
def tables() -> npt.NDArray[np.int64]:
    """Cumulative frequencies, shape (SCALES * FRACTIONS, SYMBOLS + 1).

    Row ``scale * FRACTIONS + fraction``: the mean lies ``(fraction - FRACTIONS / 2) / FRACTIONS``
    beyond an integer. Every symbol has a frequency of one at least.
    """
    rows = np.empty((SCALES * FRACTIONS, SYMBOLS + 1), np.int64)
    with localcontext() as context:
        context.prec = 40
        for scale in range(SCALES):
            step = Decimal(LOG_SCALE_HIGH - LOG_SCALE_LOW) / (SCALES - 1)
            inverse = (-(LOG_SCALE_LOW + scale * step)).exp()
            for fraction in range(FRACTIONS):
                rows[scale * FRACTIONS + fraction] = _row(inverse, fraction)
    return rows


def _row(inverse: Decimal, fraction: int) -> list[int]:
    """One row, for the reciprocal of a scale.

    Edge e of the symbols, at ``e - REACH - 1/2``, lies d above the mean. The mass beyond an edge
    above the mean falls by a constant factor from edge to edge, and so does that below.
    """
    shift = Decimal(fraction) / FRACTIONS - Decimal("0.5")
    ratio = int(_UNIT * (-inverse).exp())
    above = _tail(int(_UNIT * (-inverse * (Decimal("0.5") - shift)).exp()) // 2, ratio)
    below = _tail(int(_UNIT * (-inverse * (Decimal("0.5") + shift)).exp()) // 2, ratio)
    # edges from the lowest, REACH below the mean, to the highest; the ends are 0 and all
    masses = [*below[::-1], *(_UNIT - mass for mass in above)]
    spare = 2**PRECISION - SYMBOLS
    inner = [spare * mass // _UNIT + edge for edge, mass in enumerate(masses, 1)]
    return [0, *inner, 2**PRECISION]


def _tail(mass: int, ratio: int) -> list[int]:
    """Mass beyond the edges from the nearest to the mean on, REACH of them."""
    masses = []
    for _ in range(REACH):
        masses.append(mass)
        mass = mass * ratio // _UNIT
    return masses
