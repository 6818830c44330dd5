"""What `pip install .` installs: all packages, under their import names, with their data files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from compressai_gen.metrics.lpips import TRUNKS

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "compressai_gen": "compressai_gen",
    "diffusers_codec": "diffusers_codec",
    "plugins": "compressai_gen_plugins",
}
DATA = ("py.typed", "README.md", ".png", ".json", ".csv", ".safetensors")
WITHOUT = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    work = tmp_path_factory.mktemp("wheel")
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, work / folder, ignore=WITHOUT)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, work)
    (work / "plugins" / "core" / "checkpoint" / "older").mkdir(parents=True)
    (work / "plugins" / "core" / "checkpoint" / "older" / "config.json").write_text("{}")
    (work / "plugins" / "core" / "checkpoint" / "older" / "a.safetensors").write_bytes(b"0")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "out")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(work)], check=True)
    (built,) = (work / "out").glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_has_every_source_and_data_file(wheel):
    expected = {
        "compressai_gen_plugins/core/checkpoint/older/" + f
        for f in ("config.json", "a.safetensors")
    }
    for folder, package in PACKAGES.items():
        for file in (ROOT / folder).rglob("*"):
            if file.suffix == ".py" or file.name.endswith(DATA):
                expected.add(f"{package}/{file.relative_to(ROOT / folder).as_posix()}")
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == expected


def test_wheel_declares_command_plugins_and_licence(wheel):
    files = {Path(name).name: name for name in wheel.namelist() if ".dist-info/" in name}
    points = wheel.read(files["entry_points.txt"]).decode()
    assert "cgen = compressai_gen.cli.main:main" in points
    assert "cheng2020-vbr = compressai_gen_plugins.cheng2020_vbr.plugin" in points
    metadata = wheel.read(files["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "LICENSE" in files


def test_every_folder_of_sources_is_a_package():
    for folder in PACKAGES:
        for file in (ROOT / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), f"{file.parent} has no __init__.py"


def test_readme_has_the_test_command_on_one_line():
    """`.ci/run` runs exactly this text."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    between = readme.partition("<!-- test-command -->\n")[2].partition("<!-- /test-command -->")[0]
    fence, command, end = between.strip().splitlines()
    assert (fence, end) == ("```sh", "```")
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert command.endswith(" && .venv/bin/python -m pytest")


def test_the_readme_names_every_extra_and_every_file_of_a_metric():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra in re.findall(r"^(\w+) = \[", extras, re.MULTILINE):
        assert f'| `pip install ".[{extra}]"` |' in readme
    for net, (_, file) in TRUNKS.items():
        assert f"| `lpips-{net}` | `{file}` |" in readme


@pytest.mark.parametrize("folder", PACKAGES)
def test_nobody_is_sent_to_an_index(folder):
    """The package is on none."""
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in (".py", ".md"):
            assert "compressai-gen[" not in file.read_text(encoding="utf-8"), file


PLUGINS = ROOT / "plugins"
WEIGHTS = sorted(PLUGINS.glob("*/checkpoint/**/*.safetensors"))


@pytest.mark.parametrize("file", WEIGHTS, ids=lambda file: str(file.relative_to(PLUGINS)))
def test_weights_that_ship_carry_their_licence(file):
    plugin = PLUGINS / file.relative_to(PLUGINS).parts[0]
    card = next(p / "README.md" for p in file.parents if (p / "README.md").is_file())
    assert "\nlicense: apache-2.0\n" in card.read_text(encoding="utf-8")
    assert "Licence: Apache-2.0" in (plugin / "README.md").read_text(encoding="utf-8")
