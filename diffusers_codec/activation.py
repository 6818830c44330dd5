"""Fills diffusers; `compressai_gen.activation` calls it when diffusers is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from compressai_gen.activation import warn_taken
from compressai_gen.plugins import registry
from compressai_gen.registry import Registry

METHODS = ["save_pretrained", "from_pretrained"]
BASES = {"ModelMixin": METHODS, "SchedulerMixin": METHODS}


class Lookup:
    """The module-level ``__getattr__`` (PEP 562) of diffusers, asked before its own lazy lookup.

    Args:
        module: diffusers.
        ours: registry of each name that diffusers does not have itself.
        previous: the ``__getattr__`` it replaces in the module's dictionary, if there was one.
    """

    def __init__(
        self,
        module: ModuleType,
        ours: Mapping[str, Registry],
        previous: Callable[[str], Any] | None,
    ) -> None:
        self.module, self.ours, self.previous = module, ours, previous

    def __call__(self, name: str) -> Any:
        if name in self.ours:
            value = self.ours[name].load(name)
            setattr(self.module, name, value)
            return value
        if self.previous is not None:
            return self.previous(name)
        raise AttributeError(f"module {self.module.__name__} has no attribute {name}")


def fill_diffusers() -> None:
    """Makes registered pipelines and components attributes of diffusers, imported when used."""
    diffusers = sys.modules["diffusers"]
    names = vars(diffusers)
    previous = names.get("__getattr__")
    if isinstance(previous, Lookup):
        return
    public = names.get("__all__", [])  # for dir(); a module imported eagerly has none
    ours = {}
    for noun in ("pipeline", "component"):
        registered = registry(f"{noun}s")
        for name in registered:
            if name in public or name in names:
                warn_taken(registered.entry(name), noun, "diffusers")
            else:
                ours[name] = registered
    names["__getattr__"] = Lookup(diffusers, ours, previous)
    public.extend(ours)


def fill_loadable_classes() -> None:
    """Lets `from_pretrained`, from the Hub too, import the modules that define our components."""
    loading = sys.modules["diffusers.pipelines.pipeline_loading_utils"]
    components = registry("components")
    modules = {components.entry(name).target.partition(":")[0] for name in components}
    for module in ("diffusers_codec", *sorted(modules)):
        # what diffusers records: the root of our package, the defining module of anyone else's
        if module == "diffusers_codec" or not module.startswith("diffusers_codec."):
            loading.LOADABLE_CLASSES.setdefault(module, dict(BASES))
    loading.ALL_IMPORTABLE_CLASSES.update(BASES)
