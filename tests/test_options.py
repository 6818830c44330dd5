"""Options of codecs and enhancers: types, ranges, and how they reach a command."""

from __future__ import annotations

import argparse

import pytest

from compressai_gen.errors import OptionError
from compressai_gen.options import Option, add_options, given_options, parse_options

STEPS = Option("max_steps", int, 10, "how many, in % of the time", 1, 50)
FAST = Option("fast", bool, False, "skip the second pass", verbs=("compress",))
PRESET = Option("preset", str, "a", "which")


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        (STEPS, "7", 7),
        (FAST, "true", True),
        (FAST, "No", False),
        (FAST, True, True),
        (PRESET, "b", "b"),
        (Option("tau", float, 0, ""), "-1e3", -1000.0),
    ],
)
def test_parse(option: Option, given: object, value: object):
    assert option.parse(given) == value


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        (STEPS, "x", "--max-steps x: give an integer"),
        (STEPS, "0", "--max-steps 0 is not in 1..50"),
        (Option("tau", float, 0, "", minimum=0), "nan", "--tau nan is not in 0..inf"),
        (FAST, "maybe", "--fast maybe: give true or false"),
    ],
)
def test_parse_refuses(option: Option, given: str, words: str):
    with pytest.raises(OptionError, match=words.replace(".", r"\.")):
        option.parse(given)


def test_a_command_takes_the_options_of_its_verb():
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset")  # the command's own wins
    add_options(parser, "decompress", {"one": (STEPS, FAST), "two": (STEPS, PRESET)})
    assert "--fast" not in parser.format_help()
    told = " ".join(parser.format_help().split())
    assert "how many, in % of the time [one, two, default 10]" in told
    assert told.count("how many") == 1
    args = parser.parse_args(["--max-steps", "3", "--preset", "x"])
    assert args.preset == "x"
    assert given_options(args) == {"max_steps": "3"}
    assert given_options(parser.parse_args([])) == {}


def test_a_switch_needs_no_value():
    parser = argparse.ArgumentParser()
    add_options(parser, "compress", {"one": (FAST,)})
    assert given_options(parser.parse_args(["--fast"])) == {"fast": "true"}
    assert parse_options({"fast": "true"}, (FAST,), "one", "compress") == {"fast": True}


def test_an_option_of_another_verb_or_codec():
    with pytest.raises(OptionError, match="one has no option --fast"):
        parse_options({"fast": "true"}, (STEPS, FAST), "one", "decompress")
