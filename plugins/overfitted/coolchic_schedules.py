"""How long COOL-CHIC is fitted: a warm-up of candidates, then stages, by preset."""

from __future__ import annotations

from dataclasses import dataclass, replace

SOFT, SHARP = 0.3, 0.1
"""Temperature of soft rounding, at first and at last: C3's."""


@dataclass(frozen=True)
class Stage:
    """Some iterations with one learning rate.

    Attributes:
        iterations: at most.
        rate: of Adam, over PEAK.
        part: what is trained: "all", "latents", "networks", or of these "arm" or "synthesis" (with
            the upsampling).
        rounded: round latents, instead of doing so softly and with noise.
        patience: iterations without a new best after which the stage ends; None for no such end.
        fixed: train with the networks as a file holds them, rounded.
        filling: grids are empty at its start, and D is adapted whenever the error has halved. (Else
            the L1 of an empty picture would weigh up to twenty times too much to its end.)
    """

    iterations: int
    rate: float
    part: str = "all"
    rounded: bool = False
    patience: int | None = None
    fixed: bool = False
    filling: bool = False


@dataclass(frozen=True)
class Schedule:
    """A warm-up in rounds, each with fewer candidates, then stages.

    Attributes:
        warmup: candidates and iterations of every round.
        stages: in order; steps are chosen before the first that is ``fixed``.
        trial: iterations in which the best candidate and the same with empty grids are compared, at
            the full rate; 0 for no such comparison.
    """

    warmup: tuple[tuple[int, int], ...]
    stages: tuple[Stage, ...]
    trial: int = 0

    @property
    def total(self) -> int:
        """Iterations in all, at most."""
        warming = sum(candidates * iterations for candidates, iterations in self.warmup)
        return warming + 2 * self.trial + sum(stage.iterations for stage in self.stages)

    def temperatures(self, number: int) -> tuple[float, float] | None:
        """Of soft rounding, at the start and the end of a stage; None: noise alone, or rounded.

        Noise alone is for the full rate, where it is decided which grid holds what: softly rounded
        latents, which hardly move once they are near an integer, come to worse decisions.
        """
        soft = [0 if s.rounded or s.rate == 1 else s.iterations for s in self.stages]
        if not soft[number]:
            return None
        start, end = (sum(soft[:count]) / sum(soft) for count in (number, number + 1))
        return SOFT + start * (SHARP - SOFT), SOFT + end * (SHARP - SOFT)

    def continued(self) -> Schedule:
        """For a network that was fitted to the same picture at another rate: no warm-up."""
        first, *others = self.stages
        return Schedule((), (replace(first, filling=True), *others))


_FALL = (
    Stage(500, 1 / 2),
    Stage(500, 1 / 5),
    *(Stage(100, 1 / 5, part) for part in ("latents", "arm", "synthesis")),
    Stage(500, 1 / 10),
    Stage(500, 1 / 20),
    Stage(200, 1 / 20, rounded=True),
    *(Stage(100, 1 / 20, part, rounded=True) for part in ("arm", "synthesis")),
)
WRITTEN = tuple(
    Stage(100, rate, "networks", rounded=True, fixed=True) for rate in (1 / 50, 1 / 200)
)
"""Ours, not published."""
TRIAL = 700
"""Likewise. Which of the two is better does not change any more after 600 to 800 iterations."""

SCHEDULES = {
    "draft": Schedule(
        ((3, 40),),  # of one candidate alone the rectifiers can all be off, and stay so
        (
            Stage(120, 1),
            Stage(60, 1 / 5),
            Stage(30, 1 / 20, rounded=True),
            Stage(20, 1 / 50, "networks", rounded=True, fixed=True),
            Stage(20, 1 / 5, "latents", rounded=True, fixed=True),
        ),
    ),
    "fast": Schedule(
        ((16, 200), (8, 200), (4, 200), (2, 200)),
        (
            Stage(4000 - TRIAL, 1),
            *_FALL,
            *WRITTEN,
            Stage(100, 1 / 5, "latents", rounded=True, fixed=True),
        ),
        TRIAL,
    ),
    "medium": Schedule(
        ((16, 200), (8, 400), (2, 200)),
        (
            Stage(20_000, 1, patience=1500),
            *_FALL,
            *WRITTEN,
            Stage(500, 1 / 5, "latents", rounded=True, fixed=True),
        ),
        TRIAL,
    ),
    "slow": Schedule(
        ((16, 200), (8, 400), (2, 200)),
        (
            *(Stage(20_000, 1 / 2**k, patience=1500) for k in range(5)),
            *(Stage(2000, 1 / 2**k, rounded=True, patience=500) for k in range(5, 9)),
            *WRITTEN,
            Stage(1000, 1 / 5, "latents", rounded=True, patience=500, fixed=True),
        ),
        TRIAL,
    ),
}
"""By preset: those of v2's source, but for "draft", the trial, and the networks' training as a file
holds them, which are ours."""
