"""The two distributions of HiFiC's PyTorch checkpoints that CompressAI does not have."""

from __future__ import annotations

import math

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn


class TanhFactorBottleneck(EntropyBottleneck):
    """Factorised prior of z whose last layer has a tanh factor, too, and whose median is 0.

    Every layer is ``l = softplus(H) l + b``, ``l = l + tanh(a) tanh(l)`` (Balle et al. 2018,
    arXiv 1802.01436, appendix 6.1); CompressAI leaves the second step out of the last layer, as the
    paper does. There are four layers, with three hidden units each.

    Published models round z itself, so the median stays 0 whatever the distribution says.

    Args:
        channels: N of z.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, filters=(3, 3, 3))
        self.factors.append(nn.Parameter(torch.zeros(channels, 1, 1)))

    def _logits_cumulative(self, inputs: Tensor, stop_gradient: bool) -> Tensor:
        logits = super()._logits_cumulative(inputs, stop_gradient)
        factor = self.factors[-1].detach() if stop_gradient else self.factors[-1]
        return logits + torch.tanh(factor) * torch.tanh(logits)

    @torch.no_grad()
    def _update_quantiles(
        self, search_radius: float = 1e5, rtol: float = 1e-4, atol: float = 1e-3
    ) -> None:
        super()._update_quantiles(search_radius, rtol, atol)
        self.quantiles[:, :, 1] = 0


class LogisticConditional(GaussianConditional):
    """Logistic distribution of y: ``P = s((1/2 - |v|) / scale) - s((-1/2 - |v|) / scale)``.

    ``v`` is y minus its mean, ``s`` the sigmoid. Everything else, the 64 scales from 0.11 to 256
    included, is that of the Gaussian; so ``scale`` is the logistic's own, pi / sqrt(3) times
    smaller than its deviation.
    """

    def _standardized_cumulative(self, inputs: Tensor) -> Tensor:
        return torch.sigmoid(inputs)

    @staticmethod
    def _standardized_quantile(quantile: float) -> float:
        return math.log(quantile / (1 - quantile))
