"""A registered loss by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from compressai_gen.plugins import registry

Loss = Callable[[Tensor, Tensor], Tensor]
"""``f(x_hat, x)`` of shape (B,) for images (B, 3, H, W) in [0, 1]."""


def load_loss(name: str, weights: Path | None = None) -> Loss:
    """The loss that a plugin registered as ``name``.

    Args:
        name: such as "mse" or "lpips-squeeze".
        weights: folder searched first for the weights of a loss that is a network.

    Raises:
        UnknownNameError: no such loss.
        MissingWeightsError: its weights are not on this machine.
    """
    loss: Any = registry("losses").load(name)
    is_network = inspect.isclass(loss)
    return loss(weights=weights) if is_network else loss
