"""Imports: who may import whom (read from the source), how light they are (in a new process)."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("compressai_gen", "diffusers_codec", "compressai_gen_plugins")
HEAVY = ("torch", "torchvision", "compressai", "diffusers", "transformers", "numpy", "PIL", "scipy")
LIGHT = [
    ROOT / "compressai_gen" / f"{name}.py"
    for name in ("__init__", "activation", "errors", "hookspecs", "options", "plugins", "registry")
]
LIGHT += [ROOT / "diffusers_codec" / f"{name}.py" for name in ("__init__", "activation")]
LIGHT += (ROOT / "compressai_gen" / "cli").glob("*.py")
LIGHT += (ROOT / "plugins").glob("*/plugin.py")


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names of all modules that a source imports anywhere, strings aside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: 1 - node.level or None] if node.level else []
            yield ".".join([*base, *filter(None, [node.module])])


def at_import_time(tree: ast.AST) -> ast.AST:
    """The tree without function bodies and without what only type checkers read."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        def visit_If(self, node):
            checking = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            return None if checking else self.generic_visit(node)

    return Strip().visit(tree)


def top(module: str) -> str:
    return module.partition(".")[0]


def violations(package: str, folder: str, name: str, source: str) -> list[str]:
    """Forbidden imports of `source`, the file `name` in `folder` below `package`."""
    allowed = OURS[: OURS.index(package) + 1]
    found = []
    for module in imported(ast.parse(source), ".".join(filter(None, [package, folder]))):
        if top(module) in OURS and top(module) not in allowed:
            found.append(f"{package}/{folder}/{name} imports {module}")
        parts = module.split(".")
        if parts[0] == package == OURS[2] and parts[1:2] != folder.split(".")[:1]:
            found.append(f"plugin {folder} imports plugin {module}")
        private = [part for part in parts[1:] if part.startswith("_") and part != "__main__"]
        if top(module) in OURS and top(module) != package and private:
            found.append(f"{package}/{folder}/{name} imports the private {module}")
    return found


@pytest.mark.parametrize("package", OURS)
def test_import_rules(package):
    root = ROOT / ("plugins" if package == OURS[2] else package)
    files = sorted(root.rglob("*.py"))
    assert files
    found = []
    for file in files:
        folder = ".".join(file.relative_to(root).parent.parts)
        found += violations(package, folder, file.name, file.read_text(encoding="utf-8"))
    assert not found


@pytest.mark.parametrize(
    ("package", "folder", "source"),
    [
        ("compressai_gen", "cli", "def f():\n    import diffusers_codec.ops"),
        ("compressai_gen", "", "from compressai_gen_plugins.core import plugin"),
        ("diffusers_codec", "models", "from compressai_gen_plugins import core"),
        ("diffusers_codec", "models", "from compressai_gen._private import f"),
        ("compressai_gen_plugins", "one", "from compressai_gen_plugins.two.recipe import R"),
        ("compressai_gen_plugins", "one", "from ..two import recipe"),
    ],
)
def test_import_rules_can_fail(package, folder, source):
    assert violations(package, folder, "file.py", source)


@pytest.mark.parametrize(
    ("package", "folder", "source"),
    [
        ("compressai_gen", "cli", "import compressai, torch\nfrom compressai_gen import errors"),
        ("diffusers_codec", "models", "from compressai_gen import load_model"),
        ("compressai_gen_plugins", "one", "from . import recipe\nimport diffusers_codec"),
        ("compressai_gen_plugins", "one.sub", "from ..recipe import R"),
    ],
)
def test_import_rules_can_hold(package, folder, source):
    assert not violations(package, folder, "file.py", source)


def heavy_imports(source: str) -> set[str]:
    return {top(m) for m in imported(at_import_time(ast.parse(source)), "x")}.intersection(HEAVY)


@pytest.mark.parametrize("file", LIGHT, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_light_modules_import_nothing_heavy(file):
    assert not heavy_imports(file.read_text(encoding="utf-8"))


def test_light_module_check_can_fail():
    assert heavy_imports("try:\n    import torch.nn\nexcept ImportError: ...") == {"torch"}
    assert heavy_imports("class A:\n    from PIL import Image") == {"PIL"}
    assert not heavy_imports("def f():\n    import torch")


def test_no_folder_is_named_like_a_pipeline_of_diffusers():
    """diffusers would record a component from there as its own, and not find it again."""
    (diffusers,) = importlib.util.find_spec("diffusers").submodule_search_locations
    theirs = {p.stem for p in (Path(diffusers) / "pipelines").iterdir()} - {"__init__"}
    assert "flux" in theirs
    folders = [f for root in ("diffusers_codec", "plugins") for f in (ROOT / root).rglob("*/")]
    assert not [str(f) for f in folders if f.is_dir() and f.name in theirs - {"__pycache__"}]


MEASURE = """
import json, sys, time
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
heavy = sorted(set({heavy}).intersection(sys.modules))
sys.stdout = sys.__stdout__
print(json.dumps([seconds, heavy]))
"""
COMMAND = """
import io
sys.stdout = io.StringIO()
from compressai_gen.cli.main import main
main({arguments})
"""


def measure(code: str, runs: int = 3) -> tuple[float, list[str]]:
    """Least seconds of some runs, each in a new process, and the heavy modules it imported."""
    script = MEASURE.format(code=code, heavy=HEAVY)
    outputs = [subprocess.check_output([sys.executable, "-c", script]) for _ in range(runs)]
    seconds, heavy = zip(*map(json.loads, outputs), strict=True)
    return min(seconds), heavy[0]


def test_importing_the_package_is_light():
    seconds, heavy = measure("import compressai_gen")
    assert heavy == []
    assert seconds < 0.1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plugins"], ["plugins", "--json"], ["--version"]]
)
def test_commands_that_must_be_quick(arguments):
    seconds, heavy = measure(COMMAND.format(arguments=arguments))
    assert heavy == []
    assert seconds < 0.5


def test_measurement_can_fail():
    seconds, heavy = measure("import compressai_gen, time, numpy; time.sleep(0.1)", runs=1)
    assert heavy == ["numpy"]
    assert seconds > 0.1
