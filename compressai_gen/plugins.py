"""Find, load, isolate and report plugins: a broken one is a warning that names it and the fix."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

import pluggy

from compressai_gen import hookspecs
from compressai_gen.errors import CodecError, PluginError, UnknownNameError
from compressai_gen.registry import KINDS, Registry

GROUP = "compressai_gen"
VARIABLE = "COMPRESSAI_GEN_PLUGINS"


class PluginWarning(UserWarning):
    """A plugin, or a part of one, is left out; the message says which, why and what to do."""


@dataclass(frozen=True)
class Failure:
    """What went wrong: in which hook (None: before any hook ran), why, and what the user can do."""

    hook: str | None
    cause: str
    fix: str


@dataclass
class Plugin:
    """One entry point of the group, what it implements and what it registered (kind -> names)."""

    name: str
    distribution: str
    version: str
    enabled: bool
    hooks: list[str] = field(default_factory=list)
    registered: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Host:
    """The pluggy manager, the plugins it found and the registries they filled.

    Args:
        found: the entry points, in order: who registers a name first keeps it.
        chosen: names of the plugins to load; None loads all.
    """

    def __init__(self, found: Iterable[EntryPoint], chosen: list[str] | None = None) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        contracts = {kind: get_type_hints(getattr(hookspecs, f"register_{kind}")) for kind in KINDS}
        self.registries = {k: Registry(k, contracts[k]["register"].__call__) for k in KINDS}
        points = list(found)
        self.plugins = [_plugin(point, chosen) for point in points]
        for plugin, point in zip(self.plugins, points, strict=True):
            if plugin.enabled:
                self._load(plugin, point)
        known = [plugin.name for plugin in self.plugins]
        for name in sorted(set(chosen or ()).difference(known)):
            _warn(f"{VARIABLE}: {UnknownNameError('plugin', name, known)}")

    def _load(self, plugin: Plugin, point: EntryPoint) -> None:
        try:
            if self.manager.has_plugin(plugin.name):
                raise PluginError("a plugin of this name is already loaded")
            module = point.load()
            self.manager.register(module, name=plugin.name)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does, others load
            self._fail(plugin, None, error)
            return
        for caller in self.manager.get_hookcallers(module) or ():
            plugin.hooks.append(caller.name)
            try:
                self._call(plugin, module, caller.name)
            except (Exception, SystemExit) as error:  # likewise
                self._fail(plugin, caller.name, error)

    def _call(self, plugin: Plugin, module: object, hook: str) -> None:
        if (kind := hook.removeprefix("register_")) not in KINDS:
            raise UnknownNameError("hook", hook, [f"register_{kind}" for kind in KINDS])

        def register(*args: Any, **kwargs: Any) -> None:  # a bad name does not stop the next one
            try:
                entry = self.registries[kind].add(plugin.name, *args, **kwargs)
                plugin.registered.setdefault(kind, []).append(entry.name)
            except CodecError as error:
                self._fail(plugin, hook, error)

        others = [other for other in self.manager.get_plugins() if other is not module]
        self.manager.subset_hook_caller(hook, remove_plugins=others)(register=register)

    def _fail(self, plugin: Plugin, hook: str | None, error: BaseException) -> None:
        cause = str(error) if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
        cause = " ".join(cause.split())
        fix = self._fix(plugin)
        plugin.failures.append(Failure(hook, cause, fix))
        origin = f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version})"
        _warn(f"{origin}, {f'hook {hook}' if hook else 'while loading'}: {cause}; {fix}")

    def _fix(self, plugin: Plugin) -> str:
        others = [other for other in self.plugins if other.enabled and other is not plugin]
        for other in others:
            if other.name == plugin.name:  # the variable's names could not tell one from the other
                return f"uninstall one of the two, {other.distribution} or {plugin.distribution}"
        keep = ",".join(other.name for other in others)
        return f"`pip install -U {plugin.distribution}` or leave it out, {VARIABLE}={keep}"


def _plugin(point: EntryPoint, chosen: list[str] | None) -> Plugin:
    name, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
    return Plugin(point.name, name, version, enabled=chosen is None or point.name in chosen)


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=3)


_host: Host | None = None


def host() -> Host:
    """The host of this process; finds and loads the plugins on first use, ours first."""
    global _host
    if _host is None:
        from compressai_gen.activation import fill, imported_hosts

        before = imported_hosts()
        found = sorted(entry_points(group=GROUP), key=lambda p: (not _built_in(p), p.name))
        value = os.environ.get(VARIABLE)
        _host = Host(found, None if value is None else value.replace(",", " ").split())
        for name in imported_hosts() - before:  # by a plugin, before all plugins were known
            fill(name)
    return _host


def _built_in(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "compressai-gen"


def registry(kind: str) -> Registry:
    """What all plugins registered under `kind`, one of `compressai_gen.registry.KINDS`."""
    if kind not in KINDS:
        raise UnknownNameError("registry", kind, KINDS)
    return host().registries[kind]


def file_codec(name: str) -> str | None:
    """The plugins' file codec of this name, or around the zoo model of this name, if any."""
    codecs = registry("codecs")
    around = (each for each in codecs if name in codecs.entry(each).details["architectures"])
    return name if name in codecs else next(around, None)
