"""A CompressAI training checkpoint (``.pth.tar``) to a checkpoint folder.

Nothing heavy is imported before a conversion starts: ``cgen convert --help`` reads this module.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.errors import CheckpointError

if TYPE_CHECKING:
    from compressai.models import CompressionModel
    from torch import Tensor

CONTAINERS = ("network", "state_dict", "model_state_dict")
"""Where training scripts put the weights; ``eval_model`` looks under the same names."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes left by DataParallel and torch.compile."""


class CompressaiConverter:
    """Converter ``compressai`` of ``cgen convert``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of :meth:`__call__` as flags."""
        parser.add_argument(
            "--arch",
            dest="architecture",
            required=True,
            metavar="NAME",
            help="zoo name of the model, e.g. mbt2018-mean or cheng2020-anchor-vbr",
        )
        parser.add_argument("--quality", type=int, help="zoo quality of a model with one rate")
        parser.add_argument("--metric", default="mse", help="what it was trained for (default mse)")
        parser.add_argument("--license", help="licence of the weights, e.g. apache-2.0")

    def __call__(
        self,
        source: str | Path,
        out: str | Path,
        *,
        architecture: str,
        quality: int | None = None,
        metric: str = "mse",
        license: str | None = None,
    ) -> Path:
        """Convert, export the entropy path to fixed point where there is such a form, and save.

        Tables that the checkpoint holds are kept; missing ones are built (``model.update()``).

        Args:
            source: a pickle of tensors or a safetensors file: a bare state dict, or one under
                "network", "state_dict" or "model_state_dict". Old CompressAI spellings and the
                prefixes of DataParallel and torch.compile are understood.
            out: the folder to write.
            architecture: zoo name.
            quality: the zoo quality it was trained for, if it has one rate.
            metric: what it was trained for.
            license: the Hub's licence identifier, for the model card.

        Returns:
            The folder.

        Raises:
            CheckpointError: if the file is missing, holds other objects than tensors, or does
                not fit the architecture.
            UnknownNameError: for an unknown architecture.
        """
        from compressai_gen.checkpoints.architectures import (
            architecture_class,
            constructor_arguments,
        )
        from compressai_gen.checkpoints.folder import check_replaceable, save_model
        from compressai_gen.checkpoints.stock import export_where_possible

        architecture_class(architecture)
        check_replaceable(Path(out).expanduser())
        model = _model(architecture, _read(Path(source).expanduser()), str(source))
        export_where_possible(model)
        return save_model(
            model,
            out,
            architecture=architecture,
            arguments=constructor_arguments(model),
            quality=quality,
            metric=metric,
            license=license,
        )


convert_compressai = CompressaiConverter()


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, its keys spelled as CompressAI spells them today."""
    content = load_untrusted(path, "save net.state_dict() alone with torch.save and convert that")
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    state = _tensors(content)
    if not state:
        raise CheckpointError(
            f"{path} holds no state dict: expected tensors by name, bare or under "
            f"{', '.join(map(repr, CONTAINERS))}"
        )
    from compressai.zoo import load_state_dict as rename_old_keys

    return dict(rename_old_keys({unwrapped(name): tensor for name, tensor in state.items()}))


def load_untrusted(path: Path, advice: str) -> Any:
    """The content of a pickle or safetensors file; tensors and plain containers only.

    Args:
        path: a file from anywhere; nothing in it is run.
        advice: what to do about a pickle that holds other objects, to end the error with.

    Raises:
        CheckpointError: if the file is missing, damaged or holds other objects.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder: give the checkpoint file in it") from None
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} is not a pickle of tensors only, and other objects are never loaded "
            f"({reason}): {advice}"
        ) from None
    except (RuntimeError, SafetensorError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {reason}") from None


def _tensors(content: Any) -> dict[str, Tensor]:
    import torch

    if not isinstance(content, Mapping):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, torch.Tensor) and isinstance(k, str)}


def unwrapped(name: str) -> str:
    """The name of a tensor without the prefixes of DataParallel and torch.compile."""
    while prefix := next((p for p in WRAPPERS if name.startswith(p)), None):
        name = name[len(prefix) :]
    return name


def _model(architecture: str, state: dict[str, Tensor], source: str) -> CompressionModel:
    """The model of a state dict: its width read off the weights, everything loaded.

    Raises:
        CheckpointError: if the weights are not of that architecture.
    """
    from compressai_gen.checkpoints.architectures import architecture_class, build_model
    from compressai_gen.models.state_dicts import resize_empty_buffers, without_portable

    state = without_portable(state)
    state.pop("QuantOffset", None)  # a leftover in CompressAI's own -vbr checkpoints
    try:
        arguments = _measured_arguments(architecture, state)
        if arguments is None:
            return architecture_class(architecture).from_state_dict(state)
        model = build_model(architecture, arguments)
        resize_empty_buffers(model, state)
        model.load_state_dict(state)
        return model
    except (RuntimeError, KeyError, IndexError, CheckpointError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[-2:])
        raise CheckpointError(
            f"the weights in {source} do not fit --arch {architecture} ({reason:.300}): name the "
            f"architecture it was trained as"
        ) from None


def _measured_arguments(architecture: str, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Constructor arguments where the class's own ``from_state_dict`` cannot find all of them."""
    if architecture.startswith("elic2022-"):
        N, M = state["g_a.0.weight"].size(0), state["g_s.1.weight"].size(0)
        return {"N": N, "M": M, "groups": _elic_groups(state)}
    if "gayn2zqstep.0.weight" in state:
        N, M = state["g_a.0.weight"].size(0), state["g_a.6.weight"].size(0)
        return {"N": N, "M": M, "vr_entbttlnck": True}
    return None


def _elic_groups(state: Mapping[str, Tensor]) -> list[int]:
    """Channels of ELIC's groups: the spatial context of group k maps groups[k] to twice that."""
    root = "latent_codec.y.latent_codec.y"
    groups: list[int] = []
    while (name := f"{root}{len(groups)}.context_prediction.weight") in state:
        groups.append(state[name].size(1))
    return groups
