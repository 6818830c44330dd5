"""Train a model on a folder of photographs, by the recipe of a plugin."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

from compressai_gen.cli.parser import Parser
from compressai_gen.options import add_options, given_options, parse_options
from compressai_gen.plugins import registry

LIST = "list"  # in the place of a recipe


class RecipeParser(Parser):
    """Parser of one recipe's arguments; its help imports the recipe, for the names of presets."""

    def __init__(self, *args: Any, recipe: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.recipe = recipe

    def format_help(self) -> str:
        recipe = self.recipe and registry("recipes").load(self.recipe)
        if presets := getattr(recipe, "presets", None):
            self.epilog = f"presets: {', '.join(presets)}"
        return super().format_help()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Each recipe has its own options."""
    choices = parser.add_subparsers(
        dest="recipe", required=True, metavar="RECIPE", parser_class=RecipeParser
    )
    choices.add_parser(LIST, help="print the recipes, one a line")
    recipes = registry("recipes")
    for entry in map(recipes.entry, recipes):
        told = entry.details["help"]
        own = choices.add_parser(
            entry.name, help=told.replace("%", "%%"), description=told, recipe=entry.name
        )
        _add_settings(own)
        add_options(own, "train", {entry.name: entry.details["options"]})


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Those that every recipe has."""
    parser.add_argument("--data", type=Path, help="folder of photographs, searched recursively")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the run (default: cgen-train/RECIPE); a run that was "
        "stopped goes on from there",
    )
    parser.add_argument("--preset", help="settings to start from (default: the recipe's first)")
    parser.add_argument("--minutes", type=float, help="time budget, over all resumed parts")
    parser.add_argument("--steps", type=int, help="stop after this many steps at the latest")
    parser.add_argument("--batch-size", type=int, help="crops a step and process")
    parser.add_argument("--crop", type=int, help="side of the crops, pixels")
    parser.add_argument("--learning-rate", type=float, help="of Adam, at its peak")
    parser.add_argument(
        "--muon", type=float, help="of Muon for the convolutions, at its peak; 0: Adam for all"
    )
    parser.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="constructor argument of the model, such as N=96; may be repeated",
    )
    parser.add_argument("--init", help="checkpoint to start from: a folder or a Hub repo id")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")


def run(args: argparse.Namespace) -> int | None:
    """Train; Ctrl-C stops the run in a state from which the same command goes on."""
    from compressai_gen.errors import ImageError, OptionError

    recipes = registry("recipes")
    if args.recipe == LIST:
        for entry in map(recipes.entry, recipes):
            print(f"{entry.name:<32}{entry.details['help']}".rstrip())
        return None
    recipe = recipes.load(args.recipe)
    if args.data is None:
        raise OptionError("no pictures to train on: give a folder of photographs with --data DIR")
    if not args.data.is_dir():
        raise ImageError(f"{args.data} is not a folder: give a folder of photographs with --data")
    known = recipes.entry(args.recipe).details["options"]
    options = parse_options(given_options(args), known, args.recipe, "train")
    changes = ("minutes", "batch_size", "crop", "learning_rate", "muon")
    folder = recipe.train(
        args.data,
        args.out or Path("cgen-train") / args.recipe,
        preset=args.preset,
        arguments=dict(parse_argument(text) for text in args.argument),
        init=args.init,
        seed=args.seed,
        workers=args.workers,
        steps=args.steps,
        **{name: getattr(args, name) for name in changes},
        **options,
    )
    print(f"checkpoint: {folder}\ntry: {recipe.usage(folder)}", file=sys.stderr)
    return None


def parse_argument(text: str) -> tuple[str, object]:
    """``"N=96"`` to ``("N", 96)``, ``"attention=full"`` to ``("attention", "full")``.

    Raises:
        OptionError: without ``=``, or if the value is neither a Python literal nor a word.
    """
    from compressai_gen.errors import OptionError

    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), ast.literal_eval(value)
    except (SyntaxError, ValueError):
        if value.replace("-", "_").isidentifier():
            return name.strip(), value
    raise OptionError(
        f"--argument {text!r} is not NAME=VALUE with a number, a word, or a list such as [24,48,64]"
    )
