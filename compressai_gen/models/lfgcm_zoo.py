"""The zoo factory of DiffEIC's compression module, and its arguments from a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen.models.zoo import find_embedded

MULTIPLIERS = {1: 16.0, 2: 8.0, 3: 4.0, 4: 2.0, 5: 1.0}
"""Lambda of the rate in equation 13 for every quality: 0.02, 0.04, 0.06, 0.09 and 0.12 bpp."""


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments of weights under our names.

    Raises:
        KeyError: if a tensor they are read from is missing.
    """
    context = re.compile(r"channel_groups\.groups\.\d+\.local_context\.weight")
    groups = [tensor.size(1) for name, tensor in state.items() if context.fullmatch(name)]
    if not groups:
        raise KeyError(context.pattern)
    stages = [state[f"g_a.down_8.{4 * i}.conv1.weight"].size(0) for i in range(3)]
    latent = state["g_s.conv_out.weight"].size(0)
    arguments = {
        "N": state["h_a.conv_out.weight"].size(0),
        "groups": groups,
        "stages": stages,
        "latent_channels": latent,
        "guidance": "f_c.0.weight" in state,
    }
    if len(groups) > 1:
        inner = state["channel_groups.groups.1.channel_context.2.weight"]
        arguments["context"] = [inner.size(1), inner.size(0)]
    if arguments["guidance"]:
        arguments["features"] = state["g_a.features_8.0.weight"].size(0)
        added, attended = "h_a.fusion.project.weight" in state, "h_a.fusion.query.weight" in state
        arguments["fusion"] = (
            "addition" if added else "cross-attention" if attended else "concatenation"
        )
    return arguments


def diffeic_lfgcm(
    quality: int = 5,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **kwargs: Any,
) -> Lfgcm:
    """Zoo factory: a fresh LFGCM, or a converted or trained one.

    Args:
        quality: 1 to 5, the released models of about 0.02, 0.04, 0.06, 0.09 and 0.12 bits a pixel;
            they differ in their weights alone.
        metric: "mse"; accepted for compatibility.
        pretrained: the small one that ships, of quality 5; the released weights are not distributed
            with this package.
        progress: accepted for compatibility; nothing is downloaded.
        checkpoint: a folder, a safetensors file or a Hub repo id to load.
        **kwargs: constructor arguments of a fresh model.

    Raises:
        OptionError: for an unknown quality or metric.
        CheckpointError: if there is no such checkpoint.
    """
    if quality not in MULTIPLIERS or metric != "mse":
        raise OptionError(
            f"diffeic-lfgcm has no quality {quality} for metric {metric!r}: give 1 (0.02 bpp), "
            '2 (0.04), 3 (0.06), 4 (0.09) or 5 (0.12), and "mse"'
        )
    if pretrained and checkpoint is None:
        checkpoint = _embedded(quality)
    if checkpoint is not None:
        from compressai_gen.checkpoints import load_model

        model = load_model(checkpoint)
        if not isinstance(model, Lfgcm):
            raise CheckpointError(f"{checkpoint} holds a {type(model).__name__}, not an LFGCM")
        return model
    return Lfgcm(**kwargs)


def _embedded(quality: int) -> Path:
    """Folder of the one that ships, which was trained with quality 5's lambda.

    Raises:
        CheckpointError: for another quality.
    """
    folder = find_embedded("diffeic-lfgcm", "mse")
    if quality != 5 or folder is None:
        raise CheckpointError(
            f"no diffeic-lfgcm of quality {quality} ships with the package, only a small one of "
            "quality 5 (its files: `--codec diffeic`); for a released one fetch lc.ckpt from the "
            "links of huai-chang/DiffEIC, run `cgen convert diffeic lc.ckpt --sd FOLDER --out DIR` "
            "and pass checkpoint=DIR/codec"
        )
    return folder
