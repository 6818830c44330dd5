"""Options that a codec, an enhancer or a recipe adds to the commands of `cgen`.

A plugin declares them beside its registration (``options=(Option("tau", float, 0.5, "..."),)``);
this module imports nothing heavy so that the command line can list them without loading a codec.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compressai_gen.errors import OptionError

_PREFIX = "option:"  # keeps an option's name apart from a command's own arguments
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One keyword argument of ``compress``, ``decompress`` or a recipe's ``train``.

    Args:
        name: of the keyword argument; the flag is the same with dashes.
        type: float, int, str or bool.
        default: what the codec uses when the option is not given; told in the help.
        help: one line.
        minimum, maximum: inclusive range of a number.
        verbs: which of the verbs ``compress``, ``decompress``, ``train`` take it.
        recorded: whether result files name it; not what leaves files as they are, such as a folder
            for states.
    """

    name: str
    type: type
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    verbs: tuple[str, ...] = ("compress", "decompress")
    recorded: bool = True

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, given: Any) -> Any:
        """``given`` (a string from the command line, or a value) as this option's type.

        Raises:
            OptionError: not of that type, or out of range.
        """
        try:
            value = _truth(given) if self.type is bool else self.type(given)
        except (TypeError, ValueError):
            raise OptionError(f"{self.flag} {given}: give {_KINDS[self.type]}") from None
        if self.type in (int, float):
            self._check_range(value)
        return value

    def _check_range(self, value: float) -> None:
        low = "-inf" if self.minimum is None else f"{self.minimum:g}"
        high = "inf" if self.maximum is None else f"{self.maximum:g}"
        if not float(low) <= value <= float(high):
            raise OptionError(f"{self.flag} {value:g} is not in {low}..{high}")


_KINDS = {float: "a number", int: "an integer", str: "a text", bool: "true or false"}


def add_options(
    parser: argparse.ArgumentParser, verb: str, owners: Mapping[str, Iterable[Option]]
) -> None:
    """Adds the options of all owners that ``verb`` takes, each flag once.

    Args:
        parser: of the command.
        verb: ``"compress"``, ``"decompress"`` or ``"train"``.
        owners: options by the name of the codec, enhancer or recipe that has them.
    """
    by_flag: dict[str, list[tuple[str, Option]]] = {}
    for owner, options in owners.items():
        for option in options:
            if verb in option.verbs:
                by_flag.setdefault(option.flag, []).append((owner, option))
    group = (
        parser.add_argument_group("options of codecs, enhancers and recipes") if by_flag else parser
    )
    for flag, uses in sorted(by_flag.items()):
        if flag in parser._option_string_actions:
            continue  # a command's own argument wins
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if uses[0][1].type is bool else {}
        group.add_argument(
            flag,
            dest=_PREFIX + uses[0][1].name,
            metavar="X",
            default=None,
            help=_told(uses).replace("%", "%%"),
            **switch,
        )


def _told(uses: Iterable[tuple[str, Option]]) -> str:
    """The help of one flag: each sentence once, with the owners and the default it holds for."""
    owners: dict[tuple[str, str], list[str]] = {}
    for owner, option in uses:
        default = "" if option.default is None else f", default {option.default}"
        owners.setdefault((option.help, default), []).append(owner)
    return "; ".join(f"{h} [{', '.join(names)}{d}]" for (h, d), names in owners.items())


def given_options(args: argparse.Namespace) -> dict[str, str]:
    """The codec options present on the command line, still as text."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in vars(args).items()
        if name.startswith(_PREFIX) and value is not None
    }


def parse_options(
    given: Mapping[str, Any], options: Iterable[Option], owner: str, verb: str
) -> dict[str, Any]:
    """Checked keyword arguments for a verb of ``owner``.

    Raises:
        OptionError: an option that ``owner`` does not have, or a bad value.
    """
    known = {option.name: option for option in options if verb in option.verbs}
    for name in given:
        if name not in known:
            flags = ", ".join(option.flag for option in known.values()) or "none"
            raise OptionError(
                f"{owner} has no option --{name.replace('_', '-')} at {verb}; it has: {flags}"
            )
    return {name: known[name].parse(value) for name, value in given.items()}


def _truth(given: Any) -> bool:
    text = str(given).lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(text)
    return text in _TRUE
