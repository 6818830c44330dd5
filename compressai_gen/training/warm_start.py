"""Starting a model from a trained one of another width."""

from __future__ import annotations

import torch
from torch import Tensor

from compressai_gen.models.variable_rate import VariableRateModel

NETWORKS = ("h_s.", "context_prediction.", "entropy_parameters.")
"""Their inputs and outputs hold several maps of y's width side by side: scales beside means, what
the hyperprior says beside what the context says."""
GAINS = ("y_gain.", "z_gain.")
CONVOLUTIONS = ("g_a.", "g_s.", "h_a.", *NETWORKS)


@torch.no_grad()
def warm_start(model: VariableRateModel, trained: VariableRateModel) -> None:
    """Copy into ``model`` what fits of ``trained``, so that a wider one begins with its function.

    Tensors of equal shape are copied. In the networks the common channels are copied, and what the
    new channels would add to old ones is zero at first (gradients reach it); new gains are the mean
    of the old ones at their rate point. Everything else keeps its random start.

    Args:
        model: fresh, of the same architecture.
        trained: whose weights are taken over.
    """
    source = trained.state_dict()
    widths = (model.y_gain.log2_gain.shape[1], trained.y_gain.log2_gain.shape[1])
    for name, own in model.state_dict().items():
        old = source.get(name)
        if old is None or name.startswith("portable."):
            continue
        if old.shape == own.shape:
            own.copy_(old)
        elif name.startswith(CONVOLUTIONS):
            copy_channels(own, old, widths if name.startswith(NETWORKS) else None)
        elif name.startswith(GAINS):
            own.copy_(old.mean(dim=1, keepdim=True).expand_as(own))
            own[:, : old.shape[1]] = old[:, : own.shape[1]]


def copy_channels(own: Tensor, old: Tensor, widths: tuple[int, int] | None) -> None:
    """The common channels of a convolution; zero from its new inputs to its old outputs.

    Args:
        own: weight (outputs, inputs, ...) or bias (outputs,), changed in place.
        old: the trained one.
        widths: of y in both; where both sizes are the same multiple of them, the channels are that
            many maps of y side by side, and are copied map by map. None: one map.
    """
    outputs, outputs_before = common_channels(own.shape[0], old.shape[0], widths)
    if own.dim() == 1:
        own[outputs] = old[outputs_before]
        return
    inputs, inputs_before = common_channels(own.shape[1], old.shape[1], widths)
    own[outputs] = 0
    own[outputs[:, None], inputs] = old[outputs_before[:, None], inputs_before]


def common_channels(own: int, old: int, widths: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Where the common channels lie, in the new tensor and in the old one."""
    maps = 1
    if widths is not None and own * widths[1] == old * widths[0] and own % widths[0] == 0:
        maps = own // widths[0]
    common = torch.arange(min(own, old) // maps)
    starts = torch.arange(maps)[:, None]
    return (starts * (own // maps) + common).flatten(), (starts * (old // maps) + common).flatten()
