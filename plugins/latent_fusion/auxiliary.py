"""The auxiliary encoder g_a' of latent fusion: where the training target y_bar comes from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.checkpoints import (
    architecture_of,
    build_model,
    constructor_arguments,
    load_model,
)
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.variable_rate import VariableRateModel
from compressai_gen.models.zoo import find_embedded
from compressai_gen_plugins.latent_fusion.plugin import BASES


class AuxiliaryEncoder(CompressionModel):
    """A second analysis transform for a codec that stays as it is. Used in training only.

    .. code-block:: none

        x ─► g_a' ─► ×scale ─► y_bar ─► (Q) ─► g_s (frozen) ─► x_bar       loss: L(x, x_bar) alone

    It has the structure of the base's ``g_a`` and starts from its weights (Zhou et al., AAAI 2025,
    Fig. 2 b). Trained for a perceptual loss where the base was trained for distortion, and the
    other way round, its y_bar is what the fusion network learns to produce from y_hat. Its latents
    have no entropy model: there is nothing to write a file with.

    ``scale`` is 1 but for a variable-rate base, whose gains are part of its analysis: what reaches
    its ``g_s`` is y times gain times inverse gain, and that product, at the highest rate, is the
    scale.

    Args:
        base: zoo name of the base architecture.
        arguments: constructor arguments of the base.
    """

    scale: Tensor

    def __init__(self, base: str, arguments: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.base, self.arguments = base, dict(arguments or {})
        model = build_model(base, self.arguments)
        self.g_a = model.g_a
        self.register_buffer("scale", latent_scale(model))

    @classmethod
    def from_base(cls, model: CompressionModel) -> AuxiliaryEncoder:
        """An auxiliary encoder that starts as a copy of the analysis transform of ``model``.

        Raises:
            CheckpointError: if ``model`` is of no registered architecture.
        """
        encoder = cls(architecture_of(model), constructor_arguments(model))
        encoder.g_a = copy.deepcopy(model.g_a).requires_grad_(True)
        encoder.scale = latent_scale(model)
        return encoder

    def forward(self, x: Tensor) -> Tensor:
        """y_bar, as ``g_s`` takes it, shape (B, M, H/16, W/16), of images (B, 3, H, W) in [0, 1].

        It is not quantised: the target of a regression need not be codable.
        """
        return self.g_a(x) * self.scale

    def compress(self, *_: Any, **__: Any) -> NoReturn:
        """Raises OptionError: there is no entropy model."""
        raise OptionError(f"{self.base}-aux serves training only: compress with {self.base}")

    decompress = compress

    @classmethod
    def from_state_dict(cls, state_dict: Any) -> NoReturn:
        """Raises OptionError: the tensors of g_a do not tell the base."""
        raise OptionError("an auxiliary encoder is loaded from its folder, with checkpoint=FOLDER")


@torch.no_grad()
def latent_scale(model: CompressionModel) -> Tensor:
    """From the output of ``g_a`` to the input of ``g_s``, shape (M, 1, 1), or a plain 1."""
    if not isinstance(model, VariableRateModel):
        return torch.ones(1, 1, 1)
    top = torch.tensor([model.levels - 1.0], device=model.y_gain.log2_gain.device)
    return (model.y_gain.gain(top) * model.y_gain.inverse_gain(top))[0]


def auxiliary_encoder(
    base: str,
    quality: float | None = None,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **kwargs: Any,
) -> AuxiliaryEncoder:
    """Zoo factory of ``<base>-aux``: the base's analysis transform, or a trained one.

    Args:
        base: zoo name of the base.
        pretrained: the embedded auxiliary encoder where there is one for that metric; otherwise
            one that starts from the base's trained weights.
        quality: of the base whose transform it starts from; None for its factory's own default, and
            4 for CompressAI's models, which have none.
        metric, progress: likewise of the base.
        checkpoint: folder or Hub repo id of a trained auxiliary encoder, instead.
        **kwargs: constructor arguments of a fresh base.

    Raises:
        CheckpointError: if there is no such checkpoint, or it holds something else.
    """
    if pretrained and checkpoint is None:
        checkpoint = find_embedded(f"{base}-aux", metric)
    if checkpoint is None:
        from compressai.registry import MODELS
        from compressai.zoo import image_models

        if base in image_models:
            factory = image_models[base]
            options = {"metric": metric, "pretrained": pretrained, "progress": progress}
            model = factory(**quality_option(factory, quality), **options, **kwargs)
        else:  # registered by CompressAI, but without a factory
            model = MODELS[base](**kwargs)
        return AuxiliaryEncoder.from_base(model)
    encoder = load_model(checkpoint)
    if not isinstance(encoder, AuxiliaryEncoder) or encoder.base != base:
        raise CheckpointError(f"{checkpoint} holds no auxiliary encoder of {base}")
    return encoder


def quality_option(factory: Callable[..., Any], given: float | None) -> dict[str, float]:
    """``quality`` for a zoo factory: none if none was given, but 4 where it cannot be left out."""
    parameter = signature(factory).parameters.get("quality")
    if given is None and parameter is not None and parameter.default is Parameter.empty:
        given = 4
    return {} if given is None else {"quality": given}


FACTORIES = SimpleNamespace(
    **{base.replace("-", "_"): partial(auxiliary_encoder, base) for base in BASES}
)
