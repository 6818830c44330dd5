"""Fixtures for all tests: the external plugin, installed as a stranger's distribution would be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXTERNAL_PLUGIN = Path(__file__).parent / "external_plugin"


@pytest.fixture(scope="session")
def external_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `sys.path` that pip installed ``tests/external_plugin`` into."""
    work = tmp_path_factory.mktemp("external")
    source = shutil.copytree(EXTERNAL_PLUGIN, work / "source")  # builds leave files behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(work / "site")]
    subprocess.run([*pip, *options, str(source)], check=True)
    return work / "site"


@pytest.fixture
def run_python(external_plugin: Path, tmp_path: Path) -> Callable[..., str]:
    """``run_python("code" or "-m", "module", ..., VARIABLE="value")``: what a new process prints.

    The process finds the external plugin (and `extra_path`), runs in `tmp_path` and must succeed.
    """

    def run(*arguments: str, extra_path: str = "", **environment: str) -> str:
        if arguments[0] != "-m":
            arguments = ("-c", *arguments)
        path = os.pathsep.join(filter(None, [str(external_plugin), extra_path]))
        env = {**os.environ, "PYTHONPATH": path, **environment}
        done = subprocess.run(
            [sys.executable, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
