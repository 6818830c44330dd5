"""The tensors of a released ``lc.ckpt`` under our names.

It is a Lightning checkpoint of the compression module (``preprocess_model``) and the control module
(``control_model``), whose blocks carry the names of the original latent diffusion code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from compressai_gen.checkpoints.renaming import Modules, pairs, renamed
from compressai_gen.errors import CheckpointError

CODEC, CONTROL = "preprocess_model.", "control_model."
TABLES = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
"""Built anew at conversion: the released program rebuilds them whenever it loads."""

OLD_BOTTLENECK = re.compile(r"entropy_bottleneck\._(matrix|bias|factor)(\d)")
PLURAL = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
F_C = re.compile(r"f_c\.(?:[a-z_]+\.)?(\d)\.")
"""The released f_c, whether a bare sequence or one inside a module like the hyper-decoder's."""


def codec_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The compression module's tensors, without tables.

    Args:
        published: names without ``preprocess_model.``; the entropy bottleneck in either spelling
            of CompressAI.
    """
    state = {}
    for name, tensor in published.items():
        if name.endswith(TABLES):
            continue
        old = OLD_BOTTLENECK.match(name)
        if old:
            name = f"entropy_bottleneck.{PLURAL[old[1]]}.{old[2]}"
        state[F_C.sub(r"f_c.\1.", name)] = tensor
    groups = sum(re.fullmatch(r"local_context\.\d+\.weight", name) is not None for name in state)
    return renamed(state, codec_modules(groups))


def codec_modules(groups: int) -> Modules:
    """Released modules to ours."""
    sequences = {
        "encoder.sft_1_8": "g_a.features_8",
        "encoder.sft_1_16": "g_a.features_16",
        "encoder.sft_1_16_2": "g_a.features_16b",
        "encoder.g_a3": "g_a.conv_in",
        "encoder.g_a6": "g_a.conv_out",
        "hyper_enc.sft_feature": "h_a.features_in",
        "hyper_enc.sft_feature_h1": "h_a.fusion.layers",
        "hyper_enc.sft_feature_h2": "h_a.features_32",
        "hyper_enc.sft_feature_h3": "h_a.features_64",
        "hyper_enc.h_a0": "h_a.conv_16",
        "hyper_enc.h_a3": "h_a.conv_32",
        "hyper_enc.h_a6": "h_a.conv_64",
        "hyper_enc.h_a9": "h_a.conv_out",
        "hyper_dec.hyper_dec": "h_s",
        "decoder.sft_feature_gs1": "g_s.fusion.layers",
        "decoder.sft_feature_gs2": "g_s.features_16",
        "decoder.sft_feature_gs3": "g_s.features_8",
        "decoder.g_s2.0": "g_s.at_16.0",
        "decoder.g_s4": "g_s.conv_out",
    }
    modulations = {
        "encoder.g_a1_ref": "g_a.modulation_8",
        "encoder.g_a2_ref": "g_a.modulation_16",
        "hyper_enc.h_a1": "h_a.modulation_16",
        "hyper_enc.h_a4": "h_a.modulation_32",
        "decoder.g_s2_ref": "g_s.modulation_16",
        "decoder.g_s3_ref": "g_s.modulation_8",
    }
    blocks = {
        "encoder.g_a4": "g_a.blocks.0",
        "encoder.g_a5": "g_a.blocks.1",
        "hyper_enc.h_a7": "h_a.blocks.0",
        "hyper_enc.h_a8": "h_a.blocks.1",
        "decoder.g_s0": "g_s.blocks.0",
        "decoder.g_s1": "g_s.blocks.1",
    }
    modules = dict(sequences)
    for theirs, ours in blocks.items():
        modules |= pairs(theirs, ("conv_0", "conv_1"), ours, ("conv1", "conv2"))
        for k in (0, 1):
            modulations[f"{theirs}.norm_{k}"] = f"{ours}.modulation{k + 1}"
    for theirs, ours in modulations.items():
        inside = ("mlp_shared.0", "mlp_gamma", "mlp_beta")
        modules |= pairs(theirs, inside, ours, ("shared", "gamma", "beta"))
    for theirs, ours, starts in (
        ("encoder.g_a1", "g_a.down_8", (0, 4, 8)),
        ("encoder.g_a2", "g_a.down_16", (0,)),
    ):
        for start in starts:
            inside = ("conv1", "conv2", "downsample")
            ends = ("conv1", "conv2", "skip")
            modules |= pairs(f"{theirs}.{start}", inside, f"{ours}.{start}", ends)
            modules |= bottlenecks(theirs, ours, range(start + 1, start + 4))
    modules |= bottlenecks("decoder.g_s2", "g_s.at_16", range(1, 4))
    modules |= bottlenecks("decoder.g_s3", "g_s.at_8", range(1, 4))
    inside = ("subpel_conv", "conv", "upsample")
    modules |= pairs("decoder.g_s3.0", inside, "g_s.at_8.0", ("enlarge", "conv", "skip"))
    for k in range(groups):
        ours = f"channel_groups.groups.{k}"
        modules |= {
            f"local_context.{k}": f"{ours}.local_context",
            f"channel_context.{k}.fushion": f"{ours}.channel_context",
            f"entropy_parameters_anchor.{k}.fusion": f"{ours}.anchors",
            f"entropy_parameters_nonanchor.{k}.fusion": f"{ours}.others",
        }
    return modules


def bottlenecks(theirs: str, ours: str, places: range) -> Modules:
    """Residual bottlenecks that stand at the same places of two sequences."""
    return {f"{theirs}.{k}.branch": f"{ours}.{k}.branch" for k in places}


def control_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The control module's tensors under diffusers' names.

    ``scale_list``, a factor for every zero convolution (all of them 1 as released), is multiplied
    into the convolutions.

    Args:
        published: names without ``control_model.``.

    Raises:
        CheckpointError: if there are as many factors as fit no module.
    """
    state = dict(published)
    scales = state.pop("scale_list", None)
    levels = len(
        {name for name in state if re.fullmatch(r".*input_blocks\.\d+\.0\.op\.weight", name)}
    )
    stream = sum(
        re.fullmatch(r"enc_zero_convs_out\.\d+\.0\.weight", name) is not None for name in state
    )
    if not stream or stream % (levels + 1):
        raise CheckpointError(
            "the control module is not the released one: its encoder has "
            f"{stream} zero convolutions and {levels + 1} levels"
        )
    translated = renamed(state, control_modules(levels + 1, stream // (levels + 1) - 1))
    if scales is not None and bool((scales != 1).any()):
        convolutions = [f"encoder_convs.{k}" for k in range(stream)] + ["middle_conv"]
        convolutions += [f"decoder_convs.{k}" for k in range(stream)]
        for name, scale in zip(convolutions, scales.flatten(), strict=True):
            for leaf in ("weight", "bias"):
                translated[f"{name}.{leaf}"] = translated[f"{name}.{leaf}"] * scale
    return translated


def control_modules(levels: int, layers: int) -> Modules:
    """Names of latent diffusion's UNet, and of the zero convolutions, to ours.

    Args:
        levels: of resolution.
        layers: residual blocks a level.
    """
    root = "control_model"
    modules = {
        f"{root}.time_embed.0": "time_embedding.linear_1",
        f"{root}.time_embed.2": "time_embedding.linear_2",
        f"{root}.input_blocks.0.0": "conv_in",
        "middle_block_out.0": "middle_conv",
    }
    residual = [
        (f"{root}.middle_block.0", "mid_block.resnets.0"),
        (f"{root}.middle_block.2", "mid_block.resnets.1"),
    ]
    modules[f"{root}.middle_block.1"] = "mid_block.attentions.0"
    for level in range(levels):
        for layer in range(layers):
            block = f"{root}.input_blocks.{1 + level * (layers + 1) + layer}"
            residual.append((f"{block}.0", f"down_blocks.{level}.resnets.{layer}"))
            modules[f"{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
        block = f"{root}.input_blocks.{(level + 1) * (layers + 1)}"
        modules[f"{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    for theirs, ours in residual:
        inside = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
        ends = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2")
        modules |= pairs(theirs, (*inside, "skip_connection"), ours, (*ends, "conv_shortcut"))
    for k in range(levels * (layers + 1)):
        modules[f"enc_zero_convs_out.{k}.0"] = f"encoder_convs.{k}"
        modules[f"dec_zero_convs_out.{k}.0"] = f"decoder_convs.{k}"
    return modules
