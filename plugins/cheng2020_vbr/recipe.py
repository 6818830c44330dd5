"""How the variable-rate models are trained.

No paper trains exactly this model. The adapter paper (its first stage: "Cheng-VBR") gives the
``ms-ssim`` preset: ten multipliers from 50 to 0.005 on 1 - MS-SSIM, batch 96, Adam at 1e-5 for 600
epochs, starting from CompressAI's weights. The ``mse`` presets use CompressAI's scale, lambda on
the 8-bit squared error, from its lowest quality to between its seventh and eighth.
"""

from __future__ import annotations

from compressai_gen.training.recipe import VariableRateRecipe
from compressai_gen.training.variable_rate import VariableRateRecipes

MSE_MULTIPLIERS = tuple(round(0.0018 * (0.13 / 0.0018) ** (level / 9), 6) for level in range(10))

PAPER_MULTIPLIERS = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 16.0, 50.0)


SMALL_CHENG = {"N": 128, "stages": [24, 48, 64], "hyper": 64}
"""Narrow where the resolution is high and where the parameters are, but not in y."""


ENTROPY_NETWORKS = ("h_s", "context_prediction", "entropy_parameters")
"""Left to Adam by the small presets: they hold most of the parameters but little of the work, and
Muon's matrix products for them take a good part of a step on a CPU."""


def _recipes(architecture: str, small: dict[str, object]) -> VariableRateRecipes:
    """``small`` is what two CPU cores afford in an afternoon; the others want a GPU."""
    mse = VariableRateRecipe(
        architecture=architecture,
        multipliers=MSE_MULTIPLIERS,
        batch_size=16,
        learning_rate=1e-3,
        muon=0.005,
        decay=0.7,
        minutes=24 * 60,
    )
    paper = mse.replace(
        metric="ms-ssim",
        multipliers=PAPER_MULTIPLIERS,
        batch_size=96,
        learning_rate=1e-5,
        muon=0.0,
        decay=0.0,
        autocast="no",
    )
    few = mse.replace(arguments=small, batch_size=4, crop=192, learning_rate=2e-3, minutes=120)
    if architecture.startswith("cheng2020"):
        few = few.replace(adam=ENTROPY_NETWORKS)
    return VariableRateRecipes({"small": few, "mse": mse, "ms-ssim": paper})


CHENG2020_ANCHOR_VBR = _recipes("cheng2020-anchor-vbr", SMALL_CHENG)
CHENG2020_ATTN_VBR = _recipes("cheng2020-attn-vbr", SMALL_CHENG)
BMSHJ2018_GAIN_VBR = _recipes("bmshj2018-hyperprior-gain-vbr", {"N": 64, "M": 96})
MBT2018_MEAN_GAIN_VBR = _recipes("mbt2018-mean-gain-vbr", {"N": 64, "M": 96})
