"""Running `cgen` in a folder with one picture and small checkpoints, for tests of commands.

A test file imports the fixtures it uses, ``cgen as cgen``, so that each has its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from small_models import ARCHITECTURES
from toys import DEFAULT, exported, pixels

from compressai_gen.checkpoints import save_model
from compressai_gen.cli.main import main

Cgen = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small checkpoint of the default codec and one of a non-portable one."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in (DEFAULT, "mbt2018"):
        save_model(exported(name), folder / name, architecture=name, arguments=ARCHITECTURES[name])
    return folder


@pytest.fixture
def work(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one picture; the small checkpoint is the only one known."""
    known = sys.modules["compressai_gen.checkpoints.known"]
    monkeypatch.setattr(known, "_embedded", lambda: iter(()))
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no hub"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.fromarray(pixels(40, 50)).save("photo.png")
    return folder


@pytest.fixture
def cgen(capsys: pytest.CaptureFixture[str]) -> Cgen:
    """Runs a command: its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def names(folder: Path | str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def assert_one_line(result: tuple[int, str, str], *words: str) -> None:
    """A user's mistake: exit status 1, one line on standard error, nothing else."""
    status, out, err = result
    assert (status, out) == (1, ""), result
    assert err.startswith("cgen: "), err
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err, (word, err)
