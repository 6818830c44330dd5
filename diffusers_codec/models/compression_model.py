"""A CompressAI model, stock or ours, as a diffusers component."""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from compressai.models import CompressionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from compressai_gen.checkpoints import (
    CheckpointConfig,
    architecture_of,
    constructor_arguments,
    metric_of,
)
from compressai_gen.checkpoints.fingerprint import (
    check_fingerprint,
    model_fingerprint,
    synthesis_hash,
)
from compressai_gen.checkpoints.folder import check_tables, model_from_config
from compressai_gen.checkpoints.hub import publish
from compressai_gen.checkpoints.stock import export_where_possible
from compressai_gen.checkpoints.weights import stored_as_integers
from compressai_gen.codec import ModelCodec
from compressai_gen.codec.placement import parse_dtype
from compressai_gen.entropy.restore import restore
from compressai_gen.errors import OptionError
from compressai_gen.models.latents import synthesis
from compressai_gen.models.variable_rate import VariableRateModel
from diffusers_codec.models.loading import hide_prefix, refuse_misfit, single_device


class CompressionModelComponent(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as in diffusers
    """A CompressAI model inside a diffusers pipeline.

    Saved, it is a checkpoint folder of ``compressai_gen.checkpoints``: the tensors carry
    CompressAI's names, so ``compressai_gen.load_model`` and the stock classes read it as well.

    Everything stays float32: ``.half()``, ``.to(torch.float16)`` and ``torch_dtype`` move or load
    the component but never cast it, because one differently rounded table index makes a file
    undecodable. The synthesis alone can run in another type: ``component.codec(dtype=...)``.
    It is never split over devices either; offload it with ``enable_model_cpu_offload``.

    Args:
        architecture: zoo name, for example "mbt2018-mean" or "cheng2020-anchor-vbr".
        arguments: keyword arguments of that architecture's constructor.
        portable: layout of the fixed-point entropy path; None for a model without one.
        quality: the zoo quality a single-rate model was trained for.
        metric: what it was trained for.
        fingerprint: recorded when saving, checked when loading.
        synthesis: recorded when saving.

    Raises:
        UnknownNameError: for an architecture that is registered nowhere.
        CheckpointError: if ``arguments`` do not build one.
        OptionError: on PyTorch's meta device, where CompressAI's models cannot be built.
    """

    _supports_param_buffer_assignment = False  # tensors are copied, hence stay float32

    @register_to_config
    def __init__(
        self,
        architecture: str = "mbt2018-mean",
        arguments: dict[str, Any] | None = None,
        portable: dict[str, Any] | None = None,
        quality: int | None = None,
        metric: str = "mse",
        fingerprint: str | None = None,
        synthesis: str | None = None,
    ) -> None:
        super().__init__()
        if nn.Linear(1, 1).weight.is_meta:
            raise OptionError(
                f"{architecture} cannot be built on the meta device: leave out device_map (or name "
                f"one device) and init_empty_weights"
            )
        config = CheckpointConfig(architecture, arguments or {}, portable, quality, metric)
        self._adopt(model_from_config(config))

    def _adopt(self, model: CompressionModel) -> None:
        """Hold ``model``, under CompressAI's names in state dicts."""
        self.model = model
        hide_prefix(self, "model.")

    @classmethod
    def from_compressai(
        cls,
        model: CompressionModel,
        *,
        architecture: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        quality: int | None = None,
        metric: str | None = None,
    ) -> CompressionModelComponent:
        """A component around ``model`` itself (not a copy), in evaluation mode.

        Args:
            model: any registered CompressAI model; a fixed-point entropy path in
                ``model.portable`` is part of it. One that was not exported yet is exported now,
                where that can be (its context is not serial), so that its files are portable and
                have the fingerprint they have through ``cgen``.
            architecture: zoo name; by default found by the model's class.
            arguments: constructor arguments; by default read off the model.
            quality: the zoo quality it was trained for, if it has one rate.
            metric: what it was trained for; by default what its class says, or else "mse".

        Raises:
            CheckpointError: if the name or the arguments cannot be found.
            CodecError: the weights of its entropy path do not fit fixed point.
        """
        name = architecture or architecture_of(model)
        built_with = constructor_arguments(model) if arguments is None else dict(arguments)
        if isinstance(model, VariableRateModel):
            model.entropy_path()
        elif getattr(model, "portable", None) is None:
            export_where_possible(model)
        component = cls.__new__(cls)  # __init__ would build another model to throw away
        ModelMixin.__init__(component)
        component.register_to_config(
            architecture=name,
            arguments=built_with,
            quality=quality,
            metric=metric or metric_of(model),
        )
        component._adopt(model)
        component._describe()
        return component.eval()

    def _describe(self) -> None:
        """Bring the config up to date with the model."""
        portable = getattr(self.model, "portable", None)
        self.register_to_config(
            portable=None if portable is None else portable.config,
            fingerprint=model_fingerprint(self.model).hex(),
            synthesis=synthesis_hash(self.model).hex(),
        )

    # -- the model's verbs --------------------------------------------------------------------

    @apply_forward_hook
    def compress(self, x: Tensor, **options: Any) -> dict[str, Any]:
        """Images (B, 3, H, W) in [0, 1], H and W multiples of 64, to ``strings`` and ``shape``."""
        return self.model.compress(x, **options)

    @apply_forward_hook
    def decompress(self, strings: Any, shape: Any, **options: Any) -> dict[str, Any]:
        """What :meth:`compress` returned to ``x_hat``, shape (B, 3, H, W) in [0, 1]."""
        return self.model.decompress(strings, shape, **options)

    @apply_forward_hook
    def synthesize(self, latent: Tensor) -> Tensor:
        """A latent as ``g_s`` takes it to its picture, (B, 3, 16 h, 16 w), not clamped."""
        return synthesis(self.model, latent.to(self.device))

    def forward(self, x: Tensor, **options: Any) -> dict[str, Any]:
        """Reconstruction ``x_hat`` and ``likelihoods``, as CompressAI's models return them."""
        return self.model(x, **options)

    @apply_forward_hook
    def onload(self) -> None:
        """Bring an offloaded model back, for who works with :attr:`model` itself."""

    @apply_forward_hook
    def codec(
        self, *, quality: float | None = None, dtype: str | torch.dtype | None = None
    ) -> ModelCodec:
        """The file codec of this model: images to ``.cgen`` bytes and back.

        Args:
            quality: default rate point of a variable-rate model.
            dtype: of the synthesis; other types than float32 work on a copy of it.

        Raises:
            OptionError: for a quality out of range, or a type the model cannot run in.
        """
        model = self.model
        if parse_dtype(dtype) != torch.float32:
            model = copy.copy(model)
            model._modules = {**model._modules, "g_s": copy.deepcopy(model.g_s)}
        name, own = self.config["architecture"], self.config["quality"]
        codec = ModelCodec(
            model,
            name,
            quality=own,
            device=self.device,
            dtype=dtype,
            metric=self.config["metric"],
        )
        codec.quality = codec.check_quality(quality)
        return codec

    # -- types and devices --------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follow a move, ignore a cast."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    # -- loading and saving -------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[Any] | None, **options: Any
    ) -> Any:
        """Load a saved component; the arguments are those of ``ModelMixin.from_pretrained``.

        The model is built on the CPU in float32 whatever ``low_cpu_mem_usage`` and ``torch_dtype``
        say. A ``device_map`` that names one device moves it there afterwards; any other is ignored
        with a warning.

        Raises:
            CheckpointError: if tensors are missing, superfluous, or not those of the config.
        """
        for ignored in ("torch_dtype", "dtype", "max_memory", "offload_folder"):
            options.pop(ignored, None)
        device = single_device(options.pop("device_map", None))
        options |= {"low_cpu_mem_usage": False, "offload_state_dict": None}
        loaded = super().from_pretrained(pretrained_model_name_or_path, **options)
        component = loaded[0] if isinstance(loaded, tuple) else loaded
        where = str(pretrained_model_name_or_path)
        check_fingerprint(component.model, component.config["fingerprint"], where)
        nn.Module.to(component, device)
        return loaded

    @classmethod
    def _load_pretrained_model(cls, model: Any, *args: Any, **options: Any) -> Any:
        """Refuse what diffusers only warns about: a codec with random weights decodes nothing.

        Float entropy networks that are stored as integers alone are made from these.
        """
        log = logging.getLogger("diffusers.models.modeling_utils")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            loaded, missing, *others = super()._load_pretrained_model(model, *args, **options)
        finally:
            log.setLevel(level)
        left_out = stored_as_integers(loaded.model).intersection(missing)
        if left_out:
            restore(loaded.model, left_out)
        missing = [name for name in missing if name not in left_out]
        return refuse_misfit((loaded, missing, *others), model.config.architecture)

    def save_pretrained(  # a pipeline looks for these names in the signature
        self,
        save_directory: str | os.PathLike[Any],
        is_main_process: bool = True,
        save_function: Callable[..., Any] | None = None,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
        push_to_hub: bool = False,
        use_flashpack: bool = False,
        **options: Any,
    ) -> None:
        """Save as ``ModelMixin.save_pretrained`` does, with the fingerprint of the files to come.

        Raises:
            CheckpointError: if the model's tables were never built (``model.update()``).
            OptionError: with ``use_flashpack``, which casts integer tables to floats.
        """
        if use_flashpack:
            raise OptionError("use_flashpack casts the integer tables: save as safetensors")
        check_tables(self.model)
        self._describe()
        super().save_pretrained(
            save_directory,
            is_main_process=is_main_process,
            save_function=save_function,
            safe_serialization=safe_serialization,
            variant=variant,
            max_shard_size=max_shard_size,
        )
        if push_to_hub:
            options.setdefault("repo_id", Path(save_directory).resolve().name)
            publish(Path(save_directory), **options)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
        license: str | None = None,
    ) -> str:
        """Publish the component with a model card; an existing card on the Hub is kept.

        Args:
            repo_id: "org/name"; created if it does not exist.
            commit_message: "Upload model" by default.
            private: for a new repository.
            token: instead of the stored login.
            create_pr: open a pull request instead of committing.
            safe_serialization: False writes a pickle, which our own reader refuses.
            variant: goes into the name of the weights.
            subfolder: path inside the repository; no card is written then.
            license: the Hub's licence identifier, for a new card.

        Returns:
            Address of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, safe_serialization=safe_serialization, variant=variant)
            return publish(
                Path(folder),
                repo_id=repo_id,
                license=license,
                commit_message=commit_message,
                private=private,
                token=token,
                create_pr=create_pr,
                subfolder=subfolder,
            )
