"""Variable-rate Cheng2020 and hyperprior models, one set of weights for rate points 0 to 9."""

from __future__ import annotations

from compressai_gen.hookspecs import RegisterRecipe, RegisterZooModel, hookimpl
from compressai_gen.options import Option

RATE_POINTS = (0, 9)
HERE = "compressai_gen_plugins.cheng2020_vbr"


@hookimpl
def register_zoo_models(register: RegisterZooModel) -> None:
    factories, models = "compressai_gen.models.zoo", "compressai_gen.models"
    register(
        "cheng2020-anchor-vbr",
        f"{factories}:cheng2020_anchor_vbr",
        architecture=f"{models}.cheng2020_vbr:Cheng2020AnchorVbr",
        qualities=RATE_POINTS,
        variable_rate=True,
        checkpoint=f"{HERE}:checkpoint",
        help="Cheng 2020 with residual blocks, checkerboard context; the default codec",
    )
    register(
        "cheng2020-attn-vbr",
        f"{factories}:cheng2020_attn_vbr",
        architecture=f"{models}.cheng2020_vbr:Cheng2020AttentionVbr",
        qualities=RATE_POINTS,
        variable_rate=True,
        help="the same with attention modules",
    )
    register(
        "bmshj2018-hyperprior-gain-vbr",
        f"{factories}:bmshj2018_hyperprior_gain_vbr",
        architecture=f"{models}.hyperprior_vbr:ScaleHyperpriorGainVbr",
        qualities=RATE_POINTS,
        variable_rate=True,
        help="scale hyperprior with gain units",
    )
    register(
        "mbt2018-mean-gain-vbr",
        f"{factories}:mbt2018_mean_gain_vbr",
        architecture=f"{models}.hyperprior_vbr:MeanScaleHyperpriorGainVbr",
        qualities=RATE_POINTS,
        variable_rate=True,
        help="mean-scale hyperprior with gain units",
    )


@hookimpl
def register_recipes(register: RegisterRecipe) -> None:
    metric = Option("metric", str, "mse", "distortion, a registered loss", verbs=("train",))
    told = "leave lambda alone for losses other than mse"
    same_lambda = Option("same_lambda", bool, False, told, verbs=("train",))
    for name, recipe in {
        "cheng2020-anchor-vbr": "CHENG2020_ANCHOR_VBR",
        "cheng2020-attn-vbr": "CHENG2020_ATTN_VBR",
        "bmshj2018-hyperprior-gain-vbr": "BMSHJ2018_GAIN_VBR",
        "mbt2018-mean-gain-vbr": "MBT2018_MEAN_GAIN_VBR",
    }.items():
        told = "the zoo model of this name, at every rate at once"
        register(name, f"{HERE}.recipe:{recipe}", options=(metric, same_lambda), help=told)
