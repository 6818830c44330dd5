"""Fills a host with what the plugins registered, when it is imported or at once if it already was.

`install` puts one finder at the head of `sys.meta_path`. It lets the other finders do their work
and only wraps the loader of the modules in `FILLERS`, so that the filler runs right after the
module's own code. Fillers may run any number of times: they put in what is not there yet.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from compressai_gen.registry import Entry, import_target

CRITERION = "compressai_gen.losses.criterion:PictureRateDistortionLoss"
_DIFFUSERS = "diffusers_codec.activation"
FILLERS = {
    "compressai.zoo": "compressai_gen.activation:fill_compressai",
    "diffusers": f"{_DIFFUSERS}:fill_diffusers",
    "diffusers.pipelines.pipeline_loading_utils": f"{_DIFFUSERS}:fill_loadable_classes",
}


class HostFinder(MetaPathFinder):
    """Asks the other finders for a host and has their loader followed by the filler."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in FILLERS:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, HostFinder))
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            spec.loader = FillingLoader(spec.loader)
        return spec


class FillingLoader(Loader):
    """The host's own loader, then the filler. The module never sees it: it gets its own back."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        fill(module.__name__)

    def __getattr__(
        self, name: str
    ) -> Any:  # get_source, get_data, ... of a spec that was only probed
        return getattr(self.loader, name)


def install() -> None:
    """Makes the plugins known to both hosts. Calling it again changes nothing."""
    if not any(isinstance(finder, HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, HostFinder())
    for name in imported_hosts():
        importlib.import_module(name)  # waits for an import under way in another thread
        fill(name)


def imported_hosts() -> set[str]:
    """The modules to fill that somebody has imported already."""
    return FILLERS.keys() & sys.modules.keys()


def fill(name: str) -> None:
    """Runs the filler of module `name`; a failure warns, for no host may fail to import by us."""
    try:
        import_target(FILLERS[name])()
    except Exception as error:
        message = (
            f"compressai-gen could not add its models to {name}: {type(error).__name__}: {error}"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def warn_taken(entry: Entry, noun: str, host: str) -> None:
    """A plugin must not replace what the host brings itself."""
    message = (
        f"plugin {entry.plugin!r} registers the {noun} {entry.name!r}, which {host} has itself"
    )
    warnings.warn(f"{message}; that one stays", RuntimeWarning, stacklevel=3)


class LazyFactory:
    """A zoo factory ``f(quality, metric, pretrained, progress)``, imported at its first call."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.__name__ = entry.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from compressai_gen.plugins import registry

        return registry("zoo_models").load(self.entry.name)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<zoo model {self.entry.name} of plugin {self.entry.plugin}: {self.entry.target}>"


class LazyClass(type):
    """Stands for ``"module:Class"`` where a host expects a class; calls and attributes import it.

    A class, not an object with `from_state_dict`, because `update_model` calls what is no class.
    """

    target: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return import_target(cls.target)(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return getattr(import_target(cls.target), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, import_target(cls.target))


def lazy_class(target: str) -> LazyClass:
    """A stand-in for the class ``"module:Class"``."""
    return LazyClass(target.rpartition(":")[2], (), {"target": target})


def fill_compressai() -> None:
    """Adds the registered zoo models to the four dictionaries that CompressAI keeps of its own, and
    the registered losses, as one criterion, to that of criterions.
    """
    from compressai_gen.plugins import registry

    zoo, image = sys.modules["compressai.zoo"], sys.modules["compressai.zoo.image"]
    registries = importlib.import_module("compressai.registry")
    classes = registries.MODELS
    registries.CRITERIONS.setdefault("PictureRateDistortionLoss", lazy_class(CRITERION))
    for entry in map(registry("zoo_models").entry, registry("zoo_models")):
        if not isinstance(zoo.image_models.setdefault(entry.name, LazyFactory(entry)), LazyFactory):
            warn_taken(entry, "zoo model", "CompressAI")
            continue
        architecture = lazy_class(entry.details["architecture"])
        zoo.models.setdefault(entry.name, zoo.image_models[entry.name])
        image.model_architectures.setdefault(entry.name, architecture)
        classes.setdefault(entry.name, architecture)
