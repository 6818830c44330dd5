"""Zoo factories, with the contract of ``compressai.zoo``: ``f(quality, metric, pretrained, ...)``.

A variable-rate model holds every quality, so ``quality`` only sets the one it uses by default.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr, Cheng2020AttentionVbr
from compressai_gen.models.gain import check_quality
from compressai_gen.models.hyperprior_vbr import (
    MeanScaleHyperpriorGainVbr,
    ScaleHyperpriorGainVbr,
)
from compressai_gen.models.variable_rate import DEFAULT_QUALITY, VariableRateModel

METRICS = ("mse", "ms-ssim")


def variable_rate(
    architecture: str,
    model_class: type[VariableRateModel],
    quality: float | None = None,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **kwargs: Any,
) -> VariableRateModel:
    """A variable-rate model, fresh or trained.

    Args:
        architecture: its zoo name.
        model_class: its class.
        quality: default rate point of the returned model, real, in [0, 9]; 4 if none is given.
        metric: what a trained model was trained for.
        pretrained: load the embedded checkpoint.
        progress: accepted for compatibility; nothing is downloaded for an embedded checkpoint.
        checkpoint: a folder, a safetensors file or a Hub repo id to load instead.
        **kwargs: constructor arguments of a fresh model (``N``, ``levels``, ...).

    Raises:
        OptionError: for an unknown metric or a quality out of range.
        CheckpointError: if there is no such checkpoint.
    """
    if metric not in METRICS:
        raise OptionError(f"metric {metric!r} is unknown: give one of {', '.join(METRICS)}")
    source = checkpoint or (embedded_checkpoint(architecture, metric) if pretrained else None)
    if source is None:
        model = model_class(**kwargs)
    else:
        from compressai_gen.checkpoints import load_model

        model = load_model(source)
        if not isinstance(model, model_class):
            raise CheckpointError(
                f"{source} holds a {type(model).__name__}, not a {architecture} "
                f"({model_class.__name__})"
            )
    chosen = min(DEFAULT_QUALITY, model.levels - 1) if quality is None else quality
    model.quality = check_quality(chosen, model.levels)
    return model


def embedded_checkpoint(architecture: str, metric: str) -> Path:
    """Folder of the checkpoint that ships with the plugin.

    Raises:
        CheckpointError: if none ships for that architecture and metric.
    """
    folder = find_embedded(architecture, metric)
    if folder is None:
        raise CheckpointError(
            f"no trained {architecture} for {metric} ships with the package: pass "
            f"checkpoint=<folder or Hub repo id>, or train one with `cgen train {architecture}`"
        )
    return folder


def find_embedded(architecture: str, metric: str) -> Path | None:
    """Folder of the checkpoint that ships with a plugin, if one does."""
    from compressai_gen.checkpoints import known

    for entry in known():
        if entry.architecture == architecture and entry.metric == metric and entry.embedded:
            return entry.folder
    return None


cheng2020_anchor_vbr = partial(variable_rate, "cheng2020-anchor-vbr", Cheng2020AnchorVbr)
cheng2020_attn_vbr = partial(variable_rate, "cheng2020-attn-vbr", Cheng2020AttentionVbr)
bmshj2018_hyperprior_gain_vbr = partial(
    variable_rate, "bmshj2018-hyperprior-gain-vbr", ScaleHyperpriorGainVbr
)
mbt2018_mean_gain_vbr = partial(variable_rate, "mbt2018-mean-gain-vbr", MeanScaleHyperpriorGainVbr)
