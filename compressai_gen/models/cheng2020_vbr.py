"""Variable-rate Cheng2020 with a two-pass checkerboard context.

Transforms: Cheng et al., "Learned Image Compression with Discretized Gaussian Mixture Likelihoods
and Attention Modules", CVPR 2020 (arXiv 2001.01568), with CompressAI's single Gaussian.
Context: He et al., "Checkerboard Context Model for Efficient Learned Image Compression", CVPR 2021
(arXiv 2103.15306). Rates: Cui et al., CVPR 2021 (see :mod:`compressai_gen.models.gain`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from compressai.entropy_models import EntropyBottleneck
from compressai.layers import CheckerboardMaskedConv2d
from compressai.models import Cheng2020Anchor
from torch import Tensor

from compressai_gen.models.cheng2020_transforms import (
    analysis_transform,
    hyper_analysis_transform,
    hyper_synthesis_transform,
    stage_widths,
    synthesis_transform,
)
from compressai_gen.models.gain import LEVELS
from compressai_gen.models.quantisation import checkerboard, round_ste
from compressai_gen.models.variable_rate import VariableRateModel

Model = TypeVar("Model", bound="Cheng2020AnchorVbr")


class Cheng2020AnchorVbr(VariableRateModel, Cheng2020Anchor):
    """``cheng2020-anchor`` for every rate, decoded in two passes instead of pixel by pixel.

    .. code-block:: none

        pass 1: anchors       pass 2: the others      LEGEND
        ◌ □ ◌ □               ■ ◌ ■ ◌                 ■ decoded
        □ ◌ □ ◌               ◌ ■ ◌ ■                 ◌ being decoded
        ◌ □ ◌ □               ■ ◌ ■ ◌                 □ empty

        z_hat ─► h_s ─────────────┬─► entropy_parameters ─► scales_hat, means_hat
        y_hat (anchors) ─► context┘   (context is 0 in pass 1)

    The outer structure is that of :class:`VariableRateModel`.

    Args:
        N: channels of y; the paper's low-rate width is 128.
        stages: channels of the transforms at 1/2, 1/4 and 1/8 of the resolution; N, as in the
            paper, by default.
        hyper: channels of z and of the hyperprior's networks; N, as in the paper, by default.
        levels: rate points.
    """

    attention: ClassVar[bool] = False

    def __init__(
        self,
        N: int = 128,
        stages: Sequence[int] | None = None,
        hyper: int | None = None,
        levels: int = LEVELS,
    ) -> None:
        super().__init__(N=N)
        half, quarter, eighth = self.stages = tuple(stages or (N, N, N))
        self.g_a = analysis_transform(N, (half, quarter, eighth), self.attention)
        self.g_s = synthesis_transform(N, (half, quarter, eighth), self.attention)
        self.hyper = hyper or N
        self.h_a = hyper_analysis_transform(N, self.hyper)
        self.h_s = hyper_synthesis_transform(N, self.hyper)
        self.entropy_bottleneck = EntropyBottleneck(self.hyper)
        self.context_prediction = CheckerboardMaskedConv2d(N, 2 * N, kernel_size=5, padding=2)
        mask = self.context_prediction.mask
        self.context_prediction.register_buffer("mask", mask, persistent=False)
        self.add_gains(N, self.hyper, levels)

    def quantize_y(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Two passes; the context of the second sees what the decoder will see (rounded)."""
        anchors = checkerboard(y)
        no_context = torch.zeros_like(params)
        _, means_hat = self._predict(params, no_context)
        y_anchors = (round_ste(y - means_hat) + means_hat) * anchors
        context = self.context_prediction(y_anchors).float() * (1 - anchors)
        scales_hat, means_hat = self._predict(params, context)
        with torch.autocast(y.device.type, enabled=False):
            _, y_likelihoods = self.gaussian_conditional(y, scales_hat, means=means_hat)
        return round_ste(y - means_hat) + means_hat, y_likelihoods

    def _predict(self, params: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        predicted = self.entropy_parameters(torch.cat([params, context], dim=1)).float()
        scales_hat, means_hat = predicted.chunk(2, 1)
        return scales_hat, means_hat

    @classmethod
    def from_state_dict(cls: type[Model], state_dict: Mapping[str, Any]) -> Model:
        """A model whose width is read off ``state_dict``.

        It may be ours, or one of CompressAI's ``cheng2020-*`` checkpoints: the transforms are the
        same, and the context convolution starts from those taps of the serial one that lie on the
        checkerboard (fine-tune it before use).
        """
        from compressai_gen.models.state_dicts import levels_of, load_variable_rate

        hyper, N = state_dict["h_a.0.weight"].shape[:2]
        stages = stage_widths(state_dict, cls.attention)
        return load_variable_rate(cls(N, stages, hyper, levels_of(state_dict)), state_dict)


class Cheng2020AttentionVbr(Cheng2020AnchorVbr):
    """``cheng2020-attn`` for every rate: two attention blocks in each transform.

    Arguments as for :class:`Cheng2020AnchorVbr`.
    """

    attention = True
