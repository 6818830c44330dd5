"""Integer distributions of latents: Laplace laws by scale and fraction of the mean, with tails.

Made with the `decimal` module and integers alone, so that they are the same on every machine.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from compressai_gen_plugins.overfitted.kernels import (
    FRACTIONS,
    LOG_SCALE_HIGH,
    LOG_SCALE_LOW,
    PRECISION,
    REACH,
    SCALES,
    SYMBOLS,
)

TAIL_BITS = 9
"""Beside the Laplace law a symbol at a distance d from the mean has ``2**-TAIL_BITS / (1 + d*d)``.

A latent that the model does not expect costs 9 to 20 bits with it. Ours: the published law has
Laplace alone, of which training takes 16 bits at most and a file pays whatever its coder can do.
"""

_UNIT = 2**80


@lru_cache(maxsize=2)
def tables(tails: bool = True) -> npt.NDArray[np.int64]:
    """Cumulative frequencies, shape (SCALES * FRACTIONS, SYMBOLS + 1).

    Row ``scale * FRACTIONS + fraction``: the mean lies ``(fraction - FRACTIONS / 2) / FRACTIONS``
    beyond an integer. Every symbol has a frequency of one at least.

    Args:
        tails: beside the Laplace law; older files are without.
    """
    rows = np.empty((SCALES * FRACTIONS, SYMBOLS + 1), np.int64)
    with localcontext() as context:
        context.prec = 40
        for scale in range(SCALES):
            step = Decimal(LOG_SCALE_HIGH - LOG_SCALE_LOW) / (SCALES - 1)
            inverse = (-(LOG_SCALE_LOW + scale * step)).exp()
            for fraction in range(FRACTIONS):
                rows[scale * FRACTIONS + fraction] = _row(inverse, fraction, tails)
    return rows


def _row(inverse: Decimal, fraction: int, tails: bool) -> list[int]:
    """One row, for the reciprocal of a scale.

    Edge e of the symbols, at ``e - REACH - 1/2``, lies d above the mean. The mass beyond an edge
    above the mean falls by a constant factor from edge to edge, and so does that below.
    """
    shift = Decimal(fraction) / FRACTIONS - Decimal("0.5")
    ratio = int(_UNIT * (-inverse).exp())
    above = _beyond(int(_UNIT * (-inverse * (Decimal("0.5") - shift)).exp()) // 2, ratio)
    below = _beyond(int(_UNIT * (-inverse * (Decimal("0.5") + shift)).exp()) // 2, ratio)
    # edges from the lowest, REACH below the mean, to the highest; the ends are 0 and all
    masses = [*below[::-1], *(_UNIT - mass for mass in above)]
    least = (_tail_at(symbol, fraction) if tails else 1 for symbol in range(SYMBOLS))
    *below_edges, total = accumulate(least)
    spare = 2**PRECISION - total
    inner = [spare * mass // _UNIT + low for mass, low in zip(masses, below_edges, strict=True)]
    return [0, *inner, 2**PRECISION]


def _tail_at(symbol: int, fraction: int) -> int:
    """What a symbol has beside its Laplace law."""
    distance = FRACTIONS * (symbol - REACH) - (fraction - FRACTIONS // 2)
    return 1 + (FRACTIONS**2 << PRECISION - TAIL_BITS) // (FRACTIONS**2 + distance**2)


def _beyond(mass: int, ratio: int) -> list[int]:
    """Mass beyond the edges from the nearest to the mean on, REACH of them."""
    masses = []
    for _ in range(REACH):
        masses.append(mass)
        mass = mass * ratio // _UNIT
    return masses
