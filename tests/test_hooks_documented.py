"""plugins/README.md documents every hook with its signature, and shows the tested files."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

from compressai_gen import hookspecs
from compressai_gen.registry import KINDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
PLUGIN = ROOT / "tests" / "external_plugin"
FILES = sorted(
    p.relative_to(PLUGIN).as_posix() for p in PLUGIN.rglob("*.*") if "__pycache__" not in str(p)
)


def test_the_hooks_are_the_registries():
    declared = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert declared == [f"register_{kind}" for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_hook_is_documented_with_its_signature(kind):
    hook = getattr(hookspecs, f"register_{kind}")
    contract = get_type_hints(hook)["register"].__call__
    form = str(inspect.signature(contract, eval_str=True)).replace("self, ", "", 1)
    section = PAGE.partition(f"### `{hook.__name__}(register)`\n")[2].partition("\n### ")[0]
    assert f"```python\nregister{form.removesuffix(' -> None')}\n```" in section
    assert len(section.partition("```\n\n")[2]) > 40, "says nothing about the target"


def test_page_shows_every_file_of_the_tested_plugin():
    shown = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))
    assert sorted(shown) == FILES
    for name, text in shown.items():
        assert text == (PLUGIN / name).read_text(encoding="utf-8"), name
