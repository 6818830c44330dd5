"""Zoo names to model classes, and back: how a model is built from a config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from compressai.models import CompressionModel
from torch import nn

from compressai_gen.errors import CheckpointError, UnknownNameError
from compressai_gen.plugins import registry
from compressai_gen.registry import import_target

Module = TypeVar("Module")

NOT_OF_IMAGES = ("compressai.models.video", "compressai.models.pointcloud")


def architecture_names() -> list[str]:
    """Every architecture a checkpoint may name: the plugins' and CompressAI's own."""
    return sorted({*registry("zoo_models").names(), *_stock()})


def architecture_class(name: str) -> type[CompressionModel]:
    """The model class of a zoo name.

    Raises:
        UnknownNameError: naming the nearest ones.
    """
    models = registry("zoo_models")
    if name in models:
        return import_target(models.entry(name).details["architecture"])
    stock = _stock()
    if name not in stock:
        raise UnknownNameError("architecture", name, architecture_names())
    return stock[name]


def architecture_of(model: nn.Module) -> str:
    """The zoo name of a model's class.

    Raises:
        CheckpointError: if its class is registered under no name.
    """
    for name, stock in _stock().items():
        if stock is type(model):
            return name
    models = registry("zoo_models")
    for name in models:
        target = models.entry(name).details["architecture"]
        if target.endswith(f":{type(model).__qualname__}") and import_target(target) is type(model):
            return name
    raise CheckpointError(
        f"{type(model).__name__} is not a registered architecture: pass architecture=, or "
        f"register the class with compressai.registry.register_model or a plugin"
    )


def metric_of(model: nn.Module, recorded: str = "mse") -> str:
    """What a model was trained for: what its class says of all its models, else ``recorded``.

    A class says so with an attribute ``trained_for``, as HiFiC does.
    """
    metric: str = getattr(model, "trained_for", recorded)
    return metric


def build_model(architecture: str, arguments: Mapping[str, Any]) -> CompressionModel:
    """A fresh model.

    Raises:
        UnknownNameError: for an unknown architecture.
        CheckpointError: if its constructor refuses the arguments.
    """
    return build(architecture_class(architecture), arguments, architecture)


def build(module_class: type[Module], arguments: Mapping[str, Any], name: str) -> Module:
    """A module whose arguments are a user's.

    Args:
        module_class: its class.
        arguments: of its constructor.
        name: what messages call it.

    Raises:
        CheckpointError: if its constructor refuses the arguments.
    """
    try:
        return module_class(**arguments)
    except Exception as error:  # the hosts' constructors raise what they like
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"{name} cannot be built with {dict(arguments)}: {reason}; its arguments are "
            f"{', '.join(_parameters(module_class))}"
        ) from error


def constructor_arguments(model: nn.Module) -> dict[str, Any]:
    """The keyword arguments that build a model of the same shape.

    Found by name among the model's attributes; a few stock classes do not keep theirs, and are
    measured. A parameter that cannot be found is left at its default.

    Raises:
        CheckpointError: if a parameter without a default cannot be found.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in _parameters(type(model)).items():
        value = getattr(model, name, None)
        if value is None and name in _MEASURES:
            value = _MEASURES[name](model)
        if isinstance(value, (bool, int, float, str, list, tuple)):
            arguments[name] = list(value) if isinstance(value, tuple) else value
        elif parameter.default is inspect.Parameter.empty:
            raise CheckpointError(
                f"{type(model).__name__} does not keep its argument {name!r}: pass arguments="
            )
    return arguments


def _stock() -> dict[str, type[CompressionModel]]:
    """CompressAI's registered models, and those a user registered there."""
    import compressai.zoo  # noqa: F401  (its import registers them)
    from compressai.registry import MODELS

    return {
        name: model
        for name, model in MODELS.items()
        if isinstance(model, type)
        and issubclass(model, CompressionModel)
        and not model.__module__.startswith(NOT_OF_IMAGES)
    }


def _parameters(model_class: type) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(model_class).parameters
    return {name: p for name, p in signature.items() if p.kind in named}


def _input_width(model: Any) -> int:
    """N: output channels of the first convolution of g_a."""
    return next(m.out_channels for m in model.g_a.modules() if isinstance(m, nn.Conv2d))


def _latent_width(model: Any) -> int:
    """M: input channels of the first convolution of g_s."""
    return next(m.in_channels for m in model.g_s.modules() if isinstance(m, nn.Conv2d))


_MEASURES: dict[str, Callable[[Any], int]] = {"N": _input_width, "M": _latent_width}
