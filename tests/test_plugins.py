"""Finding, loading, isolating and reporting plugins; every hook; fake and real distributions."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from textwrap import dedent

import pytest

from compressai_gen import plugins
from compressai_gen.errors import UnknownNameError
from compressai_gen.plugins import Host, PluginWarning
from compressai_gen.registry import KINDS

BUILT_IN = {"core", "cheng2020-vbr", "diffeic", "hific", "latent-fusion", "overfitted"}
GOOD = """
    @hookimpl
    def register_metrics(register):
        register("good", "math:sqrt")
"""

HOOKS = {
    "zoo_models": {"architecture": "m:Net", "qualities": (0, 9), "variable_rate": True},
    "pipelines": {"help": "a pipeline"},
    "components": {},
    "codecs": {"options": ()},
    "enhancers": {"codecs": ("mbt2018-mean",)},
    "losses": {},
    "metrics": {"help": "a metric"},
    "recipes": {},
    "converters": {},
    "commands": {"help": "a command"},
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``install("name", source)``: a distribution ``name-dist`` 1.5 whose plugin is `source`."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, source: str, plugin: str | None = None) -> None:
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)
        imports = "from compressai_gen import hookimpl\n"
        (tmp_path / f"{name}_module.py").write_text(imports + dedent(source))
        info = tmp_path / f"{name}_dist-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.5\n")
        entry_point = f"[compressai_gen]\n{plugin or name} = {name}_module\n"
        (info / "entry_points.txt").write_text(entry_point)

    return install


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Host]:
    """The host of the installed fakes alone, in the order of their distributions' names."""

    def load(chosen: list[str] | None = None) -> Host:
        found = sorted(distributions(path=[str(tmp_path)]), key=lambda dist: dist.name)
        return Host([point for dist in found for point in dist.entry_points], chosen)

    return load


@pytest.mark.parametrize("kind", KINDS)
def test_hook_registers_names(kind, install, load):
    target = "math" if kind == "commands" else "math:sqrt"
    call = f"register('thing', {target!r}, **{HOOKS[kind]!r})"
    install("one", f"@hookimpl\ndef register_{kind}(register):\n    {call}\n")
    host = load()
    entry = host.registries[kind].entry("thing")
    assert (entry.plugin, entry.target) == ("one", target)
    assert HOOKS[kind].items() <= entry.details.items()
    assert host.plugins[0].hooks == [f"register_{kind}"]
    assert host.plugins[0].registered == {kind: ["thing"]}
    assert not host.plugins[0].failures


BROKEN = {
    "import error": ("import no_such_module", None, "No module named 'no_such_module'"),
    "syntax error": ("def broken(:", None, "SyntaxError"),
    "not the hook's argument": (
        "@hookimpl\ndef register_metrics(registry): ...",
        None,
        r"hook 'register_metrics' .* Argument\(s\) {'registry'}",
    ),
    "unknown hook": (
        "@hookimpl\ndef register_metric(register): ...",
        "register_metric",
        "unknown hook 'register_metric'; did you mean register_metrics",
    ),
    "hook raises": (
        "@hookimpl\ndef register_losses(register): 1 / 0",
        "register_losses",
        "ZeroDivisionError: division by zero",
    ),
    "bad target": (
        "@hookimpl\ndef register_losses(register): register('a', 'math.sqrt')",
        "register_losses",
        "the target of loss 'a' is 'math.sqrt', not \"module:object\"",
    ),
    "missing detail": (
        "@hookimpl\ndef register_zoo_models(register): register('a', 'm:f')",
        "register_zoo_models",
        "missing .*'architecture'.* register\\(name: str, target: str, \\*, architecture: str",
    ),
    "exit": ("import sys; sys.exit('I need another Python')", None, "SystemExit: I need another"),
    "hook exits": (
        "@hookimpl\ndef register_losses(register): raise SystemExit(3)",
        "register_losses",
        "SystemExit: 3",
    ),
    "detail of another type": (
        "@hookimpl\ndef register_codecs(register): register('a', 'm:C', options=('--tau',))",
        "register_codecs",
        r"options=\('--tau',\) of codec 'a' is not tuple\[compressai_gen.options.Option, ...\]",
    ),
    "taken name": (
        "@hookimpl\ndef register_metrics(register): register('good', 'cmath:sqrt')",
        "register_metrics",
        "metric 'good' is already registered by plugin 'a_good' as 'math:sqrt', which keeps",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_a_warning_and_the_others_work(case, install, load):
    source, hook, cause = BROKEN[case]
    install("a_good", GOOD)
    install("broken", source)
    install("z_good", GOOD.replace("good", "other"))
    who = r"plugin 'broken' \(broken-dist 1\.5\), " + (f"hook {hook}" if hook else "while loading")
    fix = r"`pip install -U broken-dist` or leave it out, COMPRESSAI_GEN_PLUGINS=a_good,z_good"
    with pytest.warns(PluginWarning, match=f"^{who}: .*{cause}.*; {fix}$") as warned:
        host = load()
    assert len(warned) == 1
    assert host.registries["metrics"].names() == ["good", "other"]
    assert host.registries["metrics"].entry("good").plugin == "a_good"
    (failure,) = host.plugins[1].failures
    assert failure.hook == hook
    assert not host.plugins[0].failures
    assert not host.plugins[2].failures


def test_one_bad_name_does_not_stop_the_next(install, load):
    source = "@hookimpl\ndef register_losses(register):\n"
    install("half", source + "    register('a', 'bad')\n    register('b', 'math:sqrt')\n")
    with pytest.warns(PluginWarning, match="target of loss 'a'"):
        host = load()
    assert host.registries["losses"].names() == ["b"]


def test_two_distributions_with_one_plugin_name(install, load):
    install("first", GOOD, plugin="same")
    install("second", GOOD, plugin="same")
    with pytest.warns(PluginWarning, match="second-dist.*a plugin of this name is already loaded"):
        host = load(["same"])
    assert [len(plugin.failures) for plugin in host.plugins] == [0, 1]
    fix = "uninstall one of the two, first-dist or second-dist"  # no choice of names can help
    assert host.plugins[1].failures[0].fix == fix


@pytest.mark.parametrize(
    ("chosen", "expected"), [(None, ["a", "b"]), ([], []), (["b"], ["b"]), (["b", "a"], ["a", "b"])]
)
def test_chosen_plugins(chosen, expected, install, load):
    install("a", GOOD.replace("good", "a"))
    install("b", GOOD.replace("good", "b"))
    host = load(chosen)
    assert host.registries["metrics"].names() == expected
    assert [plugin.name for plugin in host.plugins if plugin.enabled] == expected


def test_unknown_choice_suggests_the_nearest(install, load):
    install("good", GOOD)
    with pytest.warns(
        PluginWarning, match=r"COMPRESSAI_GEN_PLUGINS: unknown plugin 'god'; did .* good"
    ):
        load(["god"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, BUILT_IN), ("", set()), ("core", {"core"}), (" core, ", {"core"})],
)
def test_environment_variable_chooses(value, expected, monkeypatch):
    monkeypatch.setattr(plugins, "_host", None)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(plugins.VARIABLE, value)
    assert {plugin.name for plugin in plugins.host().plugins if plugin.enabled} == expected
    assert ("psnr-rgb" in plugins.registry("metrics")) == ("core" in expected)


def test_unknown_registry():
    with pytest.raises(UnknownNameError, match="unknown registry 'metric'; did you mean metrics"):
        plugins.registry("metric")


def test_built_in_plugins_load_in_silence(monkeypatch):
    monkeypatch.setattr(plugins, "_host", None)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        host = plugins.host()
    assert not [str(w.message) for w in warned if issubclass(w.category, PluginWarning)]
    built_in = {p.name: p for p in host.plugins if p.distribution == "compressai-gen"}
    assert set(built_in) == BUILT_IN


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_target_can_be_imported(kind):
    registry = plugins.registry(kind)
    for name in registry:
        assert registry.load(name) is not None


def test_external_distribution_adds_what_it_says(run_python):
    listed = json.loads(run_python("-m", "compressai_gen", "plugins", "--json"))
    assert listed["COMPRESSAI_GEN_PLUGINS"] is None
    tiny = next(plugin for plugin in listed["plugins"] if plugin["name"] == "tiny")
    assert (tiny["distribution"], tiny["version"]) == ("compressai-gen-tiny", "1.2.3")
    assert tiny["enabled"]
    assert tiny["failures"] == []
    assert tiny["registered"] == {
        "zoo_models": ["tiny-hyperprior"],
        "components": ["TinyFilter"],
        "pipelines": ["TinyPipeline"],
        "metrics": ["mae-rgb"],
        "commands": ["tiny-sizes"],
    }


def test_external_metric_measures(run_python):
    code = """
    import torch
    from compressai_gen.plugins import registry
    grey = torch.full((1, 3, 8, 8), 0.5)
    print(registry("metrics").load("mae-rgb")()(grey, grey + 0.1))
    """
    assert float(run_python(dedent(code))) == pytest.approx(25.5, rel=1e-4)


def test_plugin_that_imports_a_host_does_not_hide_the_others(install, run_python, tmp_path):
    install("aaa_heavy", "import compressai.zoo\n" + dedent(GOOD))
    code = "import compressai_gen.plugins as p; p.host(); import compressai.zoo as zoo\n"
    code += "print('tiny-hyperprior' in zoo.image_models, 'cheng2020-anchor-vbr' in zoo.models)"
    assert run_python(code, extra_path=str(tmp_path)) == "True True\n"
