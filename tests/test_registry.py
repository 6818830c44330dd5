"""Names, targets and errors of the registry."""

from __future__ import annotations

import math

import pytest

from compressai_gen.errors import DuplicateNameError, PluginError, UnknownNameError
from compressai_gen.hookspecs import Register, RegisterCodec, RegisterZooModel
from compressai_gen.options import Option
from compressai_gen.registry import Registry, import_target


@pytest.fixture
def metrics():
    registry = Registry("metrics", Register.__call__)
    registry.add("mine", "root", "math:sqrt", help="a square root")
    registry.add("mine", "logarithm", "math:log")
    return registry


def test_names_are_sorted_and_iterable(metrics):
    assert metrics.names() == list(metrics) == ["logarithm", "root"]
    assert "root" in metrics
    assert "rot" not in metrics


def test_entry_holds_what_was_registered(metrics):
    entry = metrics.entry("root")
    assert (entry.name, entry.target, entry.plugin) == ("root", "math:sqrt", "mine")
    assert entry.details == {"help": "a square root"}


def test_load_imports_the_target(metrics):
    assert metrics.load("root") is math.sqrt
    assert import_target("os:path.join")("a", "b")
    assert import_target("math") is math


def test_defaults_are_filled_in():
    registry = Registry("zoo_models", RegisterZooModel.__call__)
    entry = registry.add("p", "net", "m:f", architecture="m:Net", qualities=(1, 8))
    assert entry.details["variable_rate"] is False
    assert entry.details["checkpoint"] is None


def test_unknown_name_suggests_the_nearest(metrics):
    with pytest.raises(UnknownNameError, match=r"unknown metric 'rot'; did you mean root\?"):
        metrics.load("rot")


def test_duplicate_name_says_who_keeps_it(metrics):
    with pytest.raises(
        DuplicateNameError, match=r"metric 'root' is already .* 'mine' as 'math:sqrt'"
    ):
        metrics.add("theirs", "root", "cmath:sqrt")
    assert metrics.load("root") is math.sqrt


@pytest.mark.parametrize(
    "target", ["math.sqrt", "math:", ":sqrt", "ma th:sqrt", "math:sqrt:x", "", None, math.sqrt]
)
def test_target_must_be_a_string_of_the_right_form(metrics, target):
    with pytest.raises(
        PluginError, match=r'the target of metric \'new\' is .*, not "module:object"'
    ):
        metrics.add("mine", "new", target)


def test_target_of_a_command_is_a_module():
    commands = Registry("commands", Register.__call__)
    with pytest.raises(
        PluginError, match=r'the target of command \'new\' .*, not "package.module"'
    ):
        commands.add("mine", "new", "math:sqrt")
    commands.add("mine", "new", "os.path")
    assert commands.load("new").join


@pytest.mark.parametrize("wrong", [{"halp": "me"}, {"architecture": "m:Net"}])
def test_wrong_arguments_are_told_with_the_right_ones(metrics, wrong):
    with pytest.raises(
        PluginError, match=r"unexpected .* register\(name: str, target: str, \*, help"
    ):
        metrics.add("mine", "new", "math:log", **wrong)


ZOO_MODEL = {"architecture": "m:Net", "qualities": (0, 9.5)}


@pytest.mark.parametrize(
    ("argument", "value", "kind"),
    [
        ("help", None, "str"),
        ("architecture", math.sqrt, "str"),
        ("qualities", 3, r"tuple\[float, float\] \| None"),
        ("qualities", "ab", r"tuple\[float, float\] \| None"),
        ("qualities", (0, "9"), r"tuple\[float, float\] \| None"),
        ("qualities", (0, 4, 9), r"tuple\[float, float\] \| None"),
        ("variable_rate", "yes", "bool"),
        ("checkpoint", 7, r"str \| None"),
    ],
)
def test_an_argument_of_another_type(argument, value, kind):
    registry = Registry("zoo_models", RegisterZooModel.__call__)
    with pytest.raises(PluginError, match=f"{argument}=.* of zoo model 'net' is not {kind}$"):
        registry.add("p", "net", "m:f", **ZOO_MODEL | {argument: value})
    registry.add("p", "net", "m:f", **ZOO_MODEL, checkpoint="package:folder")


@pytest.mark.parametrize("wrong", [None, "mbt2018", ["mbt2018"], (None,)])
def test_a_tuple_of_any_length(wrong):
    registry = Registry("codecs", RegisterCodec.__call__)
    with pytest.raises(PluginError, match=r"architectures=.* is not tuple\[str, \.\.\.\]"):
        registry.add("p", "file", "m:C", architectures=wrong)
    options = (Option("a", int, 1, ""), Option("b", int, 2, ""))
    registry.add("p", "file", "m:C", options=options, architectures=("mbt2018", "mbt2018-mean"))


def test_a_name_is_a_text(metrics):
    with pytest.raises(PluginError, match="name=5 of metric 5 is not str"):
        metrics.add("mine", 5, "math:log")


@pytest.mark.parametrize("target", ["no_such_module:x", "math:no_such_function"])
def test_unimportable_target_names_plugin_and_target(metrics, target):
    metrics.add("mine", "gone", target)
    with pytest.raises(PluginError, match=f"metric 'gone' of plugin 'mine' .* '{target}'"):
        metrics.load("gone")
