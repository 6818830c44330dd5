"""The plugin contract: ten hooks, each handed a ``register`` callback that takes strings.

A target is ``"module:object"`` and is imported when somebody uses it, never before. What a callback
accepts is its ``__call__`` below: every call is checked against it, plugins/README.md documents it.
"""

from __future__ import annotations

from typing import Protocol

import pluggy

from compressai_gen.options import Option

hookspec = pluggy.HookspecMarker("compressai_gen")
hookimpl = pluggy.HookimplMarker("compressai_gen")


class Register(Protocol):
    def __call__(self, name: str, target: str, *, help: str = "") -> None: ...


class RegisterZooModel(Protocol):
    def __call__(
        self,
        name: str,
        target: str,
        *,
        architecture: str,
        qualities: tuple[float, float] | None,
        variable_rate: bool = False,
        checkpoint: str | None = None,
        help: str = "",
    ) -> None: ...


class RegisterRecipe(Protocol):
    def __call__(
        self, name: str, target: str, *, options: tuple[Option, ...] = (), help: str = ""
    ) -> None: ...


class RegisterCodec(Protocol):
    def __call__(
        self,
        name: str,
        target: str,
        *,
        options: tuple[Option, ...] = (),
        architectures: tuple[str, ...] = (),
        help: str = "",
    ) -> None: ...


class RegisterEnhancer(Protocol):
    def __call__(
        self,
        name: str,
        target: str,
        *,
        codecs: tuple[str, ...],
        options: tuple[Option, ...] = (),
        help: str = "",
    ) -> None: ...


@hookspec
def register_zoo_models(register: RegisterZooModel) -> None:
    """Models of `compressai.zoo`: a factory ``f(quality, metric, pretrained, progress)``."""


@hookspec
def register_pipelines(register: Register) -> None:
    """Pipelines of `diffusers`: a `DiffusionPipeline` subclass under its own class name."""


@hookspec
def register_components(register: Register) -> None:
    """Parts of pipelines: a `ModelMixin` or `SchedulerMixin` subclass under its own class name."""


@hookspec
def register_codecs(register: RegisterCodec) -> None:
    """File codecs around or beside zoo models: a class with the verbs of `compressai_gen.Codec`."""


@hookspec
def register_enhancers(register: RegisterEnhancer) -> None:
    """Decode-time enhancers of other plugins' files; `codecs` names those it understands."""


@hookspec
def register_losses(register: Register) -> None:
    """Losses, chosen by name: in a recipe and by its option of `cgen train` (``--metric`` of the
    variable-rate models, ``--loss`` of others), and by ``--loss`` of overfitted codecs.
    """


@hookspec
def register_metrics(register: Register) -> None:
    """Image quality metrics of ``cgen evaluate --metrics``."""


@hookspec
def register_recipes(register: RegisterRecipe) -> None:
    """Training recipes of ``cgen train``: presets of the paper's numbers, and a `train`."""


@hookspec
def register_converters(register: Register) -> None:
    """Converters of published checkpoints for ``cgen convert``."""


@hookspec
def register_commands(register: Register) -> None:
    """Sub-commands of `cgen`: a module (``"package.module"``) with `add_arguments` and `run`."""
