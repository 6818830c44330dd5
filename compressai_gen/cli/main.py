"""`cgen`: imports the sub-command's module alone; turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from compressai_gen import __version__
from compressai_gen.cli.parser import Parser
from compressai_gen.errors import CodecError, UnknownNameError
from compressai_gen.notes import CodecNote
from compressai_gen.plugins import PluginWarning, registry


class Command(NamedTuple):
    """A built-in command: its group in the overview, its module here, one line of help."""

    group: str
    module: str
    help: str


COMMANDS = {
    "compress": Command("files", "compress", "images to .cgen files"),
    "decompress": Command("files", "decompress", ".cgen files to images"),
    "info": Command("files", "info", "what a .cgen file holds"),
    "demo": Command(
        "files", "demo", "a photograph at several rates, against JPEG; a good first step"
    ),
    "zoo": Command(
        "models", "zoo", "the models, their rate points and whether weights are at hand"
    ),
    "train": Command("models", "train", "train a model by its recipe"),
    "convert": Command("models", "convert", "a checkpoint of another project to a folder of ours"),
    "evaluate": Command(
        "measure", "evaluate", "rates and metrics of real files, as CompressAI's JSON"
    ),
    "plot": Command("measure", "plot", "rate-distortion curves of result files"),
    "bdrate": Command("measure", "bdrate", "Bjontegaard deltas between two result files"),
    "eval-model": Command("hosts", "eval_model", "compressai.utils.eval_model with our models"),
    "update-model": Command(
        "hosts", "update_model", "compressai.utils.update_model with our models"
    ),
    "autoload": Command("hosts", "autoload", "make the hosts know our models without any import"),
    "plugins": Command(
        "hosts", "plugins", "installed plugins, what they add, what is wrong with them"
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs ``cgen ARGV``; returns the exit status, 1 for a mistake of the user's."""
    if sys.stdout is None:  # as in `cgen plugins >&-`
        return _complain("standard output is closed: send it to /dev/null if nobody reads it")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: any file name can be told
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning(warnings.showwarning)
        # torch_geometric, which compressai imports, uses it; a user of ours can do nothing about it
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        try:
            status = _dispatch(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return status
        except CodecError as error:
            return _complain(str(error))
        except KeyboardInterrupt:
            return _complain("interrupted, nothing was left half-written")
        except BrokenPipeError:  # the reader of our output has gone; keep the exit quiet as well
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            return _complain(f"{error.strerror or error}{where}")


def _complain(message: str) -> int:
    print("cgen:", " ".join(message.split()), file=sys.stderr)
    return 1


def _show_warning(default: Callable[..., None]) -> Callable[..., None]:
    """Tells our own warnings in one line, and any other as Python does."""

    def show(message: Warning, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, (PluginWarning, CodecNote)):
            print(f"cgen: warning: {message}", file=sys.stderr)
        else:
            default(message, category, *where, **more)

    return show


def _dispatch(argv: list[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0
    if name in ("-V", "--version"):
        print(f"cgen {__version__}")
        return 0
    module, summary = _find(name)
    if hasattr(module, "main"):
        return int(module.main(rest) or 0)
    parser = Parser(
        prog=f"cgen {name}",
        description=module.__doc__ or summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return int(module.run(_parse(parser, rest)) or 0)


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Options may stand between file names, unless the command has commands of its own."""
    if any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in parser._actions):
        return parser.parse_args(argv)
    return parser.parse_intermixed_args(argv)


def _find(name: str) -> tuple[ModuleType, str]:
    """The module of a command, built in or a plugin's, and its one-line help."""
    if name in COMMANDS:
        return import_module(f"compressai_gen.cli.{COMMANDS[name].module}"), COMMANDS[name].help
    added = registry("commands")
    if name not in added:
        raise UnknownNameError("command", name, [*COMMANDS, *added])
    return added.load(name), added.entry(name).details["help"]


def _overview() -> str:
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, command in COMMANDS.items():
        groups.setdefault(command.group, []).append((name, command.help))
    added = registry("commands")
    for entry in (added.entry(name) for name in added if name not in COMMANDS):
        groups.setdefault("from plugins", []).append(
            (entry.name, f"{entry.details['help']} ({entry.plugin})")
        )
    lines = ["usage: cgen COMMAND ...    (cgen COMMAND --help for its options; cgen --version)"]
    for group, rows in groups.items():
        lines += ["", f"{group}:", *(f"  {name:<14}{help}" for name, help in rows)]
    return "\n".join(lines) + "\n"
