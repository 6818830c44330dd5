"""Gain units around CompressAI's two hyperprior models (Balle et al. 2018, Minnen et al. 2018).

The latent-fusion paper uses the first as its variable-rate base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from compressai.models import MeanScaleHyperprior, ScaleHyperprior
from torch import Tensor

from compressai_gen.models.gain import LEVELS
from compressai_gen.models.quantisation import round_ste
from compressai_gen.models.variable_rate import VariableRateModel


class ScaleHyperpriorGainVbr(VariableRateModel, ScaleHyperprior):
    """``bmshj2018-hyperprior`` with gain units: ``y ~ N(0, scales_hat^2)``.

    The diagram is that of :class:`VariableRateModel`, without a context and without means.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        levels: rate points.
    """

    def __init__(self, N: int = 192, M: int = 320, levels: int = LEVELS) -> None:
        super().__init__(N, M)
        self.add_gains(M, N, levels)

    def hyper_analysis(self, y: Tensor) -> Tensor:
        return self.h_a(torch.abs(y))

    def quantize_y(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(y.device.type, enabled=False):
            _, y_likelihoods = self.gaussian_conditional(y, params)
        return round_ste(y), y_likelihoods

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> ScaleHyperpriorGainVbr:
        """A model whose widths are read off ``state_dict`` (ours, or a plain hyperprior's)."""
        from compressai_gen.models.state_dicts import hyperprior_arguments, load_variable_rate

        return load_variable_rate(cls(**hyperprior_arguments(state_dict)), state_dict)


class MeanScaleHyperpriorGainVbr(VariableRateModel, MeanScaleHyperprior):
    """``mbt2018-mean`` with gain units: ``y ~ N(means_hat, scales_hat^2)``.

    Arguments as for :class:`ScaleHyperpriorGainVbr`.
    """

    def __init__(self, N: int = 192, M: int = 320, levels: int = LEVELS) -> None:
        super().__init__(N, M)
        self.add_gains(M, N, levels)

    def quantize_y(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        scales_hat, means_hat = params.chunk(2, 1)
        with torch.autocast(y.device.type, enabled=False):
            _, y_likelihoods = self.gaussian_conditional(y, scales_hat, means=means_hat)
        return round_ste(y - means_hat) + means_hat, y_likelihoods

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> MeanScaleHyperpriorGainVbr:
        """A model whose widths are read off ``state_dict`` (ours, or a plain ``mbt2018-mean``)."""
        from compressai_gen.models.state_dicts import hyperprior_arguments, load_variable_rate

        return load_variable_rate(cls(**hyperprior_arguments(state_dict)), state_dict)
