"""A registered loss by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from inspect import isclass, signature
from pathlib import Path
from typing import Any

from torch import Tensor

from compressai_gen.errors import OptionError
from compressai_gen.plugins import registry

Loss = Callable[[Tensor, Tensor], Tensor]
"""``f(x_hat, x)`` of shape (B,) for images (B, 3, H, W) in [0, 1]."""


def load_loss(
    name: str,
    weights: Path | None = None,
    *,
    data_scale: float | None = None,
    alpha: float | None = None,
) -> Loss:
    """The loss that a plugin registered as ``name``.

    A command takes a loss by its name alone. For another scale or weight there, a plugin registers
    one of a name of its own: ``lc_ssim_8bit = partial(pictures.lc_ssim, data_scale=255)``.

    Args:
        name: such as "mse" or "lpips-squeeze".
        weights: folder searched first for the weights of a loss that is a network.
        data_scale: what errors are multiplied with, of a loss of `pictures` (1 where not given).
        alpha: weight of 1 - SSIM in "lc-ssim" (0.01) and "l1-ssim" (0.2).

    Raises:
        UnknownNameError: no such loss.
        OptionError: the loss has no such setting, or it is not a finite number above 0.
        MissingWeightsError: its weights are not on this machine.
    """
    loss: Any = registry("losses").load(name)
    settings = _checked(name, loss, {"data_scale": data_scale, "alpha": alpha})
    is_network = isclass(loss)
    loss = partial(loss, **settings) if settings else loss
    return loss(weights=weights) if is_network else loss


def _checked(name: str, loss: Any, given: Mapping[str, float | None]) -> dict[str, float]:
    """Those that are given, of a loss that has them."""
    settings = {key: value for key, value in given.items() if value is not None}
    known = signature(loss).parameters if settings else {}
    for key, value in settings.items():
        if key not in known:
            own = ", ".join(each for each in given if each in known) or "neither"
            raise OptionError(f"loss {name} has no {key}; of {' and '.join(given)} it has {own}")
        if not 0 < value < math.inf:
            raise OptionError(f"{key} {value:g} of loss {name}: give a finite number above 0")
    return settings
