"""Bjontegaard deltas (ITU-T VCEG-M33) by the `bjontegaard` package.

BD-rate is the mean difference in rate at equal quality, BD-metric the mean difference in quality at
equal rate, both over the range that the two curves share; where they share no quality, or no rate,
that one of the two is None. The package wants monotone curves that
rise with the rate, so a curve is prepared first: sorted, a lower-is-better metric negated, points
that cost more without being better dropped (and counted), and cut to the wanted range of rates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressai_gen.errors import OptionError

#: pchip agrees with JVET's spreadsheet; akima wiggles less where points are unevenly spaced
METHODS = ("pchip", "akima")


@dataclass(frozen=True)
class Curve:
    """Rate points of one codec.

    Attributes:
        name: for messages.
        rates: bits per pixel, above zero.
        values: the metric at these rates.
        higher_is_better: which way the metric improves.
    """

    name: str
    rates: tuple[float, ...]
    values: tuple[float, ...]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if len(self.rates) != len(self.values):
            raise OptionError(
                f"{self.name}: {len(self.rates)} rates and {len(self.values)} metric values"
            )
        if not all(rate > 0 and math.isfinite(rate) for rate in self.rates):
            raise OptionError(f"{self.name}: rates must be above 0, got {list(self.rates)}")
        if not all(math.isfinite(value) for value in self.values):
            raise OptionError(f"{self.name}: metric values must be finite, got {list(self.values)}")


@dataclass(frozen=True)
class BdResult:
    """What `bd` measured; negative BD-rate means the test codec needs fewer bits.

    Attributes:
        bd_rate: percent; None without a common quality.
        bd_metric: test minus anchor, in the metric's own unit and sign; None without a common rate.
        method: how the points were interpolated.
        quality_overlap: share of the joint quality range that both curves cover, 0 to 1; BD-rate
            speaks for that share only.
        rate_overlap: the same of the joint range of log rates, for BD-metric.
        dropped: ``(curve name, rate, value)`` of every point that was not monotone.
        points: how many points of the anchor and of the test were used, cut ends included.
    """

    bd_rate: float | None
    bd_metric: float | None
    method: str
    quality_overlap: float
    rate_overlap: float
    dropped: tuple[tuple[str, float, float], ...]
    points: tuple[int, int]


def bd(
    anchor: Curve,
    test: Curve,
    *,
    method: str = "pchip",
    min_bpp: float = 0.0,
    max_bpp: float = math.inf,
) -> BdResult:
    """BD-rate and BD-metric of `test` against `anchor`.

    Args:
        anchor: the curve compared with.
        test: the curve judged.
        method: ``"pchip"`` or ``"akima"``.
        min_bpp: lower end of the compared rates.
        max_bpp: upper end. Both curves are cut at the limits by interpolation in log rate; the
            points between the limits stay, and a curve is never extended to a limit.

    Raises:
        OptionError: unknown method, curves of opposite direction, fewer than two points left, or
            curves that have neither a quality nor a rate in common.
    """
    if method not in METHODS:
        raise OptionError(f"method {method!r}; allowed: {', '.join(METHODS)}")
    if anchor.higher_is_better != test.higher_is_better:
        raise OptionError(f"{anchor.name} and {test.name} disagree on which way is better")
    sign = 1 if anchor.higher_is_better else -1
    prepared, dropped = [], []
    for curve in (anchor, test):
        monotone, violations = _monotone(curve)
        dropped += [(curve.name, rate, value) for rate, value in violations]
        prepared.append(_cut(monotone, min_bpp, max_bpp, method))
    a, t = prepared
    quality_overlap = _overlap([sign * v for v in a.values], [sign * v for v in t.values])
    rate_overlap = _overlap(*([math.log(rate) for rate in curve.rates] for curve in (a, t)))
    if not quality_overlap and not rate_overlap:
        raise OptionError(_no_overlap(a, t))
    arguments = [a.rates, [sign * v for v in a.values], t.rates, [sign * v for v in t.values]]
    rate = _delta("bd_rate", arguments, method) if quality_overlap else None
    quality = sign * _delta("bd_psnr", arguments, method) if rate_overlap else None
    points = (len(a.rates), len(t.rates))
    return BdResult(rate, quality, method, quality_overlap, rate_overlap, tuple(dropped), points)


def _delta(kind: str, arguments: Sequence[Sequence[float]], method: str) -> float:
    import bjontegaard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns below 75 % overlap; the caller reports it
        delta = getattr(bjontegaard, kind)
        return float(delta(*arguments, method, require_matching_points=False))


def _monotone(curve: Curve) -> tuple[Curve, list[tuple[float, float]]]:
    """The curve sorted by rate, without points that are no better than a cheaper one."""
    sign = 1 if curve.higher_is_better else -1
    kept: list[tuple[float, float]] = []
    dropped: list[tuple[float, float]] = []
    order = sorted(zip(curve.rates, curve.values, strict=True), key=lambda p: (p[0], -sign * p[1]))
    for rate, value in order:
        worse = kept and (sign * value <= sign * kept[-1][1] or rate == kept[-1][0])
        (dropped if worse else kept).append((rate, value))
    return _with_points(curve, kept), dropped


def _cut(curve: Curve, low: float, high: float, method: str) -> Curve:
    """The part of a monotone curve between two rates, with interpolated ends."""
    _need_two(curve, "")
    inside = [p for p in zip(curve.rates, curve.values, strict=True) if low <= p[0] <= high]
    ends = [r for r in (low, high) if curve.rates[0] < r < curve.rates[-1] and r not in curve.rates]
    if ends:
        from bjontegaard.interpolation import interpolate

        logs = [math.log10(rate) for rate in curve.rates]
        value_at = interpolate(logs, list(curve.values), method)
        inside += [(rate, float(value_at(math.log10(rate)))) for rate in ends]
    cut = _with_points(curve, sorted(inside))
    _need_two(cut, f" between {low:g} and {high:g} bpp" if low > 0 or high < math.inf else "")
    return cut


def _with_points(curve: Curve, points: Sequence[tuple[float, float]]) -> Curve:
    return replace(curve, rates=tuple(r for r, _ in points), values=tuple(v for _, v in points))


def _need_two(curve: Curve, where: str) -> None:
    if len(curve.rates) < 2:
        raise OptionError(
            f"{curve.name} has {len(curve.rates)} usable rate points{where}; at least 2 are needed"
        )


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Length both intervals share over the length they span together; 0 if disjoint."""
    shared = min(max(first), max(second)) - max(min(first), min(second))
    return max(0.0, shared / (max(*first, *second) - min(*first, *second)))


def _no_overlap(*curves: Curve) -> str:
    spans = [
        f"{curve.name} covers {min(curve.values):.4g} to {max(curve.values):.4g} "
        f"at {curve.rates[0]:.4g} to {curve.rates[-1]:.4g} bpp"
        for curve in curves
    ]
    return (
        f"no quality and no rate in common: {', '.join(spans)}; "
        "evaluate rate points that overlap, or widen the limits"
    )
