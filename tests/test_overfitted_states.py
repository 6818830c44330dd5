"""The states of overfitted codecs' fits: killed commands go on, and nobody takes another's."""

from __future__ import annotations

import pytest
import torch
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from quick_fits import fit, small_photo, tensor_of

from compressai_gen.errors import CheckpointError
from compressai_gen_plugins.overfitted import coolchic_files, coolchic_fitting, coolchic_training
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitting
from compressai_gen_plugins.overfitted.coolchic_schedules import SCHEDULES, Schedule, Stage
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2

SHORT = Schedule(
    ((1, 4),),
    (
        Stage(12, 1),
        Stage(4, 1 / 10, rounded=True),
        Stage(2, 1 / 5, "latents", rounded=True, fixed=True),
    ),
)
LONG = Schedule(((3, 4), (2, 4)), (Stage(12, 1), Stage(12, 1 / 2), *SHORT.stages[1:]), trial=6)
COMMAND = ("--codec", "cool-chic-v1", "--preset", "draft")


@pytest.fixture(scope="module")
def x():
    return tensor_of(small_photo().resize((20, 16)))


@pytest.fixture
def steps(monkeypatch):
    """Quick fits; a list of their steps so far, and after which one somebody presses Ctrl-C."""
    monkeypatch.setitem(SCHEDULES, "draft", SHORT)
    counted = {"done": 0, "last": None}
    step = Fitting.step

    def counting(self, *arguments):
        if counted["done"] == counted["last"]:
            raise KeyboardInterrupt
        counted["done"] += 1
        step(self, *arguments)

    monkeypatch.setattr(Fitting, "step", counting)
    return counted


@pytest.fixture(scope="module")
def whole(x):
    """The file of a fit that nobody kills."""
    return coolchic_files.write(*fit(x, V1, 1e-3, LONG, loss="l1"))


@pytest.mark.parametrize(
    ("killed", "kept"), [(7, 4), (19, 16), (25, 24), (35, 34), (49, 46), (54, 54)]
)
def test_a_killed_fit_goes_on(killed, kept, x, whole, tmp_path, steps, monkeypatch):
    """From the last candidate, stage, or fourth step of one, as if nothing had been."""
    monkeypatch.setattr(coolchic_training, "SAVED", 4)
    steps["last"] = killed
    with pytest.raises(KeyboardInterrupt):
        fit(x, V1, 1e-3, LONG, state=tmp_path, loss="l1")
    steps["done"], steps["last"] = 0, None
    found = fit(x, V1, 1e-3, LONG, state=tmp_path, loss="l1")
    assert steps["done"] == 56 - kept
    assert coolchic_files.write(*found) == whole


def test_a_damaged_state_is_told(x, tmp_path):
    fit(x, V1, 1e-3, SHORT, state=tmp_path)
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged: remove it, or give another folder"):
        fit(x, V1, 1e-3, SHORT, state=tmp_path)


def test_a_state_of_another_layout_is_not_looked_at(x, tmp_path, steps, monkeypatch):
    """Such as an older version's, in the same folder."""
    with monkeypatch.context() as older:
        older.setattr(coolchic_fitting, "LAYOUT", 1)
        fit(x, V1, 1e-3, SHORT, state=tmp_path)
    steps["done"] = 0
    fit(x, V1, 1e-3, SHORT, state=tmp_path)
    assert steps["done"] == 22


def test_a_finished_fit_is_read_by_the_same_alone(x, tmp_path, steps):
    def steps_of(x, version=V1, **options):
        before = steps["done"]
        found = fit(x, version, 1e-3, SHORT, state=tmp_path, **options)
        return found, steps["done"] - before

    (first, whole), (again, none) = steps_of(x), steps_of(x)
    assert (whole, none) == (22, 0)
    assert coolchic_files.write(*first) == coolchic_files.write(*again)
    reshaped = x.reshape(3, 20, 16)  # the same bytes
    for other, options in (
        (x.flip(2), {}), (reshaped, {}), (x, {"loss": "l1"}), (x, {"seed": 1}),
        (x, {"version": V2}), (x, {"start": first[0]}),
    ):  # fmt: skip
        assert steps_of(other, **options)[1] > 0
    with torch.no_grad():
        first[0].grids[0] += 1
    assert steps_of(x, start=first[0])[1] > 0
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize(
    ("command", "killed", "finished"),
    [
        (("a.png", "b.png", "--quality", 3), 22 + 18, 22 + 16),
        (("a.png", "--bpp", 7.3), 2 * 22 + 2, 2 * 22),
    ],
    ids=["pictures", "search"],
)
def test_a_killed_command_goes_on(command, killed, finished, cgen, work, steps):
    """In its second picture, or in the third fit of a search; what is finished is read."""
    small_photo().resize((20, 16)).save("a.png")
    small_photo().resize((20, 16)).rotate(180).save("b.png")
    command = ("compress", *command, *COMMAND)
    assert cgen(*command, "-o", "whole/")[0] == 0
    whole, steps["done"], steps["last"] = steps["done"], 0, killed
    assert cgen(*command, "-o", "out/", "--state", "states")[0] != 0
    steps["done"], steps["last"] = 0, None
    assert cgen(*command, "-o", "out/", "--state", "states")[0] == 0
    assert steps["done"] == whole - finished
    for path in (work / "whole").iterdir():
        assert (work / "out" / path.name).read_bytes() == path.read_bytes()
