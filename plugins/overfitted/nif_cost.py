"""What a fit of NIF minimises."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from compressai_gen.losses.loading import Loss, load_loss
from compressai_gen_plugins.overfitted.nif import Nif

DATA_SCALE = 2.0
"""The published losses see pictures in [-1, 1]."""


def loss_of(name: str, device: torch.device) -> Loss:
    """A registered loss, at NIF's scale of data where it has one that a partial does not set."""
    loss: Any = load_loss(name)
    if isinstance(loss, nn.Module):
        return loss.to(device)
    is_set = isinstance(loss, partial) and "data_scale" in loss.keywords
    has_scale = "data_scale" in signature(loss).parameters and not is_set
    return partial(loss, data_scale=DATA_SCALE) if has_scale else loss


class Cost(nn.Module):
    """What a step minimises.

    Args:
        network: of one picture.
        loss: of pictures.
    """

    def __init__(self, network: Nif, loss: Loss) -> None:
        super().__init__()
        self.network, self.judge = network, [loss]  # in a list: its weights are not a fit's

    def forward(
        self, target: Tensor, position: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of a picture (3, h, w) and its mean square error, scalars; the others are the
        network's inputs.
        """
        colours = self.network(position, modulation)
        x_hat = (colours.T.reshape(target.shape) + 1) / 2
        error = (x_hat.detach() - target).square().mean()
        return self.judge[0](x_hat[None], target[None]).mean(), error
