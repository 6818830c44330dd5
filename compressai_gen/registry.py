"""Name -> ``"module:object"``, imported at first use; errors for unknown and duplicate names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import formatannotation, signature
from types import UnionType
from typing import Any, get_args, get_origin

from compressai_gen.errors import DuplicateNameError, PluginError, UnknownNameError

KINDS = (
    "zoo_models",
    "pipelines",
    "components",
    "codecs",
    "enhancers",
    "losses",
    "metrics",
    "recipes",
    "converters",
    "commands",
)
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_OBJECT, _MODULE = re.compile(f"{_DOTTED}:{_DOTTED}"), re.compile(_DOTTED)


def import_target(target: str) -> Any:
    """The object that ``"module:object"`` names, or the module that ``"package.module"`` names."""
    module, _, path = target.partition(":")
    found: Any = import_module(module)
    for part in filter(None, path.split(".")):
        found = getattr(found, part)
    return found


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value is of a type as hookspecs.py writes them: plain, a union or a tuple."""
    if isinstance(kind, UnionType):
        return any(_is_a(value, each) for each in get_args(kind))
    if get_origin(kind) is not tuple:
        return isinstance(value, (float, int) if kind is float else kind)
    if not isinstance(value, tuple):
        return False
    first, *others = get_args(kind)
    kinds = [first] * len(value) if others == [...] else [first, *others]
    return len(value) == len(kinds) and all(map(_is_a, value, kinds))


@dataclass(frozen=True)
class Entry:
    """One registered name; `details` are the keyword arguments of the hook's `register`."""

    name: str
    target: str
    plugin: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """What the plugins registered under one kind. Iterates over the names, sorted.

    Args:
        kind: one of `KINDS`.
        contract: the ``__call__`` of the `register` callback, from hookspecs.py.
    """

    def __init__(self, kind: str, contract: Callable[..., None]) -> None:
        self.kind = kind
        self.noun = kind.removesuffix("es" if kind == "losses" else "s").replace("_", " ")
        self._contract = signature(contract, eval_str=True)
        self._entries: dict[str, Entry] = {}

    def add(self, plugin: str, *args: Any, **kwargs: Any) -> Entry:
        """What ``register(*args, **kwargs)`` does in a hook of `plugin`.

        Raises:
            PluginError: not the arguments of this kind, one of another type, or a target that is
                not written ``"module:object"`` (a command: ``"package.module"``).
            DuplicateNameError: the name is taken; who came first keeps it.
        """
        entry = self._checked(plugin, args, kwargs)
        if (first := self._entries.get(entry.name)) is not None:
            raise DuplicateNameError(
                f"{self.noun} {entry.name!r} is already registered by plugin {first.plugin!r} "
                f"as {first.target!r}, which keeps the name"
            )
        self._entries[entry.name] = entry
        return entry

    def _checked(self, plugin: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry:
        try:
            bound = self._contract.bind(None, *args, **kwargs)
        except TypeError as error:
            form = str(self._contract).replace("self, ", "", 1)
            raise PluginError(f"wrong arguments ({error}) for register{form}") from None
        bound.apply_defaults()
        _, name, target = bound.args
        form, pattern = '"module:object"', _OBJECT
        if self.kind == "commands":
            form, pattern = '"package.module"', _MODULE
        if not (isinstance(target, str) and pattern.fullmatch(target)):
            raise PluginError(f"the target of {self.noun} {name!r} is {target!r}, not {form}")
        for argument, value in {"name": name, **bound.kwargs}.items():
            kind = self._contract.parameters[argument].annotation
            if not _is_a(value, kind):
                told = f"{argument}={value!r} of {self.noun} {name!r}"
                raise PluginError(f"{told} is not {formatannotation(kind)}")
        return Entry(name, target, plugin, bound.kwargs)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def entry(self, name: str) -> Entry:
        """The entry of `name`. Raises `UnknownNameError` with the nearest names."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(self.noun, name, self._entries) from None

    def load(self, name: str) -> Any:
        """Imports what `name` stands for.

        Raises:
            UnknownNameError: nothing is registered under `name`.
            PluginError: the target cannot be imported.
        """
        entry = self.entry(name)
        try:
            return import_target(entry.target)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"{self.noun} {name!r} of plugin {entry.plugin!r} cannot be imported from "
                f"{entry.target!r}: {error}"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
