"""Fills diffusers; `compressai_gen.activation` calls it when diffusers is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from compressai_gen.activation import warn_taken
from compressai_gen.plugins import registry

METHODS = ["save_pretrained", "from_pretrained"]
BASES = {"ModelMixin": METHODS, "SchedulerMixin": METHODS}


class PipelineLookup:
    """The module-level ``__getattr__`` (PEP 562) of diffusers, asked before its own lazy lookup.

    Args:
        taken: names that diffusers has itself and keeps.
        previous: the ``__getattr__`` it replaces in the module's dictionary, if there was one.
    """

    def __init__(
        self, module: ModuleType, taken: set[str], previous: Callable[[str], Any] | None
    ) -> None:
        self.module = module
        self.taken = taken
        self.previous = previous

    def __call__(self, name: str) -> Any:
        pipelines = registry("pipelines")
        if name in pipelines and name not in self.taken:
            value = pipelines.load(name)
            setattr(self.module, name, value)
            return value
        if self.previous is not None:
            return self.previous(name)
        raise AttributeError(f"module {self.module.__name__} has no attribute {name}")


def fill_diffusers() -> None:
    """Makes every registered pipeline an attribute of `diffusers`, imported at first use."""
    pipelines = registry("pipelines")
    diffusers = sys.modules["diffusers"]
    names = vars(diffusers)
    previous = names.get("__getattr__")
    if isinstance(previous, PipelineLookup):
        return
    public = names.get("__all__", [])  # for dir(); a module imported eagerly has none
    taken = {name for name in pipelines if name in public or name in names}
    for name in sorted(taken):
        warn_taken(pipelines.entry(name), "pipeline", "diffusers")
    names["__getattr__"] = PipelineLookup(diffusers, taken, previous)
    public.extend(name for name in pipelines if name not in taken)


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
