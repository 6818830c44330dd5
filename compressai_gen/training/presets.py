"""What every training recipe shares: presets by name, and a run that remembers what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from compressai_gen.bitstream.files import write_file
from compressai_gen.errors import CheckpointError, OptionError, UnknownNameError
from compressai_gen.training.recipe import Recipe

if TYPE_CHECKING:
    from compressai_gen.training.loop import Task, Trainer

MAX_SEED = 2**31 - 1
"""numpy takes one bit more, which is left to what is added for a step or a process."""

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


@dataclass(frozen=True)
class Run(Generic[AnyRecipe]):
    """One run in one folder.

    Attributes:
        recipe: what to do, checked.
        data: folder of photographs.
        out: folder of the run.
        init: checkpoint to start from instead of random weights: a folder or a Hub repo id.
        seed: of everything random.
        workers: processes that read photographs.
        steps: stop each stage after this many steps even if time is left.
        arguments: those of the recipe that were given, beside the preset's.
    """

    recipe: AnyRecipe
    data: Path
    out: Path
    init: str | None = None
    seed: int = 0
    workers: int = 0
    steps: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse settings that could only fail later.

        Raises:
            OptionError: naming the setting, what was given and what is allowed.
        """
        if not 0 <= self.seed <= MAX_SEED:
            raise OptionError(f"seed {self.seed}: give a whole number from 0 to {MAX_SEED}")
        if self.workers < 0:
            raise OptionError(f"workers {self.workers}: give a number of processes, or 0 for none")
        if self.steps is not None and self.steps < 1:
            raise OptionError(f"steps {self.steps}: give at least 1, or leave it to the minutes")

    def trainer(self, task: Task, recipe: Recipe | None = None, out: Path | None = None) -> Trainer:
        """A trainer of the run, or of one of its stages.

        Args:
            task: what is trained, and for what.
            recipe: of the stage, where it differs from the run's.
            out: folder of the stage, likewise.
        """
        from compressai_gen.training.loop import Trainer

        return Trainer(
            task,
            recipe or self.recipe,
            self.data,
            out or self.out,
            seed=self.seed,
            workers=self.workers,
            max_steps=self.steps,
        )

    def remember(self, identity: Sequence[str]) -> None:
        """As :func:`remember`, for this run."""
        remember(self.recipe, self.out, identity)


@dataclass(frozen=True)
class Recipes(Generic[AnyRecipe]):
    """The presets of one training, which a plugin registers; the first is the default.

    A subclass says with :meth:`run` what is done.
    """

    presets: Mapping[str, AnyRecipe]

    def preset(self, name: str | None = None) -> AnyRecipe:
        """The preset ``name``, or the first.

        Raises:
            UnknownNameError: if there is no such preset.
        """
        if name is None:
            return next(iter(self.presets.values()))
        if name not in self.presets:
            raise UnknownNameError("preset", name, self.presets)
        return self.presets[name]

    def train(
        self,
        data: Path,
        out: Path,
        *,
        preset: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        init: str | None = None,
        seed: int = 0,
        workers: int = 0,
        steps: int | None = None,
        **changes: Any,
    ) -> Path:
        """Train; goes on where a run in ``out`` stopped.

        Args:
            data: folder of photographs.
            out: folder of the run.
            preset: name of the preset.
            arguments: of what is trained, where they differ from the preset's.
            init, seed, workers, steps: see :class:`Run`.
            **changes: other fields of the recipe that differ from the preset's.

        Returns:
            the folder of the result.

        Raises:
            OptionError: for impossible settings, or others than the run in ``out`` was begun with.
            CheckpointError: if there is no such ``init``, or something else that is needed.
            MissingWeightsError: if the weights of a loss network are not on this machine.
        """
        from accelerate.utils import set_seed

        given = dict(arguments or {})
        recipe = self.preset(preset).replace(**changes).with_arguments(given)
        recipe.check()
        run = Run(recipe, data, out, init, seed, workers, steps, given)
        run.check()
        set_seed(seed)
        return self.run(run)

    def run(self, run: Run[AnyRecipe]) -> Path:
        """Do it; returns the folder of the result."""
        raise NotImplementedError

    def usage(self, folder: Path) -> str:
        """What to type to try the result."""
        raise NotImplementedError


def remember(recipe: Recipe, out: Path, identity: Sequence[str]) -> None:
    """Write ``recipe.json``; refuse to continue a run of something else.

    Args:
        recipe: of the run that starts, or goes on.
        out: folder of the run.
        identity: fields that cannot change on the way.

    Raises:
        OptionError: if ``out`` holds a run that differs in one of them.
        CheckpointError: if it holds a damaged ``recipe.json``.
    """
    file = out / "recipe.json"
    out.mkdir(parents=True, exist_ok=True)
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if file.exists():
        before = _begun(file)
        for key in identity:
            if before.get(key, now[key]) != now[key]:  # of an older run, a choice that was none
                raise OptionError(
                    f"{out} holds a run with {key}={before[key]}, asked for is {now[key]}: "
                    "give another --out, or the same settings to go on"
                )
    write_file(file, (json.dumps(now, indent=2) + "\n").encode())


def _begun(file: Path) -> dict[str, Any]:
    """The recipe of a run that was begun."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}): give another --out, or delete it to go on with the same "
            "settings as before"
        ) from error
