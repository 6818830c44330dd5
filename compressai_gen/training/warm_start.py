"""Starting a model from a trained one of another width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TRANSFORMS = ("g_a.", "g_s.", "h_a.")
GAINS = ("y_gain.", "z_gain.")


@torch.no_grad()
def warm_start(model: nn.Module, trained: nn.Module) -> None:
    """Copy into ``model`` what fits of ``trained``, so that a wider one begins with its function.

    Tensors of equal shape are copied. In the transforms the common block is copied, and what the
    new channels would add to old ones is zero at first (gradients reach it); new gains are the mean
    of the old ones at their rate point. Everything else, such as the networks whose outputs are
    scales and means side by side, keeps its random start.

    Args:
        model: fresh, of the same architecture.
        trained: whose weights are taken over.
    """
    source = trained.state_dict()
    for name, own in model.state_dict().items():
        old = source.get(name)
        if old is None or name.startswith("portable."):
            continue
        if old.shape == own.shape:
            own.copy_(old)
        elif name.startswith(TRANSFORMS):
            _copy_block(own, old)
        elif name.startswith(GAINS):
            own.copy_(old.mean(dim=1, keepdim=True).expand_as(own))
            own[:, : old.shape[1]] = old[:, : own.shape[1]]


def _copy_block(own: Tensor, old: Tensor) -> None:
    """The common block; zero from new inputs to old outputs."""
    block = tuple(slice(0, min(a, b)) for a, b in zip(own.shape, old.shape, strict=True))
    if own.dim() > 1:
        own[: old.shape[0], old.shape[1] :] = 0
    own[block] = old[block]
