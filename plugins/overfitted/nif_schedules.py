"""How long NIF is fitted, and how fast its networks learn, by preset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast.

    Attributes:
        cycles, iterations: of full-precision training.
        rounded_cycles, rounded_iterations: with rounded weights.
    """

    cycles: int
    iterations: int
    rounded_cycles: int
    rounded_iterations: int

    @property
    def total(self) -> int:
        """Iterations in all."""
        return self.cycles * self.iterations + self.rounded_cycles * self.rounded_iterations


SCHEDULES = {
    "draft": Schedule(2, 50, 1, 20),
    "fast": Schedule(4, 150, 2, 40),
    "medium": Schedule(7, 150, 3, 40),
    "slow": Schedule(10, 150, 5, 40),
}
"""By preset; "slow" is the published one."""


@dataclass(frozen=True)
class Phase:
    """The learning rate of one cycle: linear warm-up, then linear fall.

    Attributes:
        peak, floor: of the learning rate.
        warmup: iterations.
        decay: of the weights.
        fading: the peak of a cycle over that of the one before.
    """

    peak: float
    floor: float
    warmup: int
    decay: float
    fading: float

    def rate(self, cycle: int, step: int, steps: int) -> float:
        """At an iteration of a cycle."""
        peak = self.peak * self.fading**cycle
        if step < self.warmup:
            return self.floor + (peak - self.floor) * step / max(1, self.warmup - 1)
        return self.floor + (peak - self.floor) * (1 - step / steps)


FULL = Phase(peak=1e-3, floor=6e-4, warmup=20, decay=1e-4, fading=0.99)
ROUNDED = Phase(peak=5e-5, floor=2e-5, warmup=5, decay=1e-4, fading=1.0)
