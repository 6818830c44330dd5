"""The two-pass checkerboard context (He et al., CVPR 2021, arXiv 2103.15306) on single positions.

.. code-block:: none

    anchors, parity even    the others     taps of a 5x5 context that see anchors
    ■ □ ■ □                 □ ■ □ ■        · ■ · ■ ·
    □ ■ □ ■                 ■ □ ■ □        ■ · ■ · ■
    ■ □ ■ □                 □ ■ □ ■        · ■ x ■ ·
                                           ■ · ■ · ■
                                           · ■ · ■ ·

Everything after the hyper-synthesis is evaluated only where its result is used: the pointwise
network at half of the positions in each pass, the context at the other positions only and with
the 12 of 25 taps that can be non-zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.entropy.arithmetic import config_int
from compressai_gen.entropy.convolutions import (
    FixedConv2d,
    FixedWeights,
    masked_weight,
    quantise_weights,
)
from compressai_gen.errors import CheckpointError, NotPortableError


def positions(height: int, width: int, parity: str) -> tuple[Tensor, Tensor]:
    """Flat raster positions of the anchors and of the others, each ascending.

    Args:
        height, width: of y; odd sizes are fine.
        parity: "even" if (0, 0) is an anchor, else "odd".
    """
    rows, columns = torch.arange(height), torch.arange(width)
    odd = (rows[:, None] + columns).flatten() % 2 == 1
    even_positions, odd_positions = torch.nonzero(~odd)[:, 0], torch.nonzero(odd)[:, 0]
    return (even_positions, odd_positions) if parity == "even" else (odd_positions, even_positions)


def context_taps(kernel: int) -> list[tuple[int, int]]:
    """(row, column) of the taps at an odd distance from the centre: the ones that see anchors."""
    cells = [(i, j) for i in range(kernel) for j in range(kernel)]
    return [(i, j) for i, j in cells if (i + j) % 2 == 1]


class FixedContext(FixedWeights):
    """The context convolution at chosen positions.

    Args:
        inputs: channels of y.
        outputs: channels of the context.
        kernel: odd size of the square kernel.
        shift: of the requantisation, 0 to 30.
    """

    kind = "context"

    def __init__(self, inputs: int, outputs: int, kernel: int, shift: int) -> None:
        self.kernel, self.taps = kernel, context_taps(kernel)
        super().__init__((outputs, inputs, len(self.taps)), outputs, shift)

    def forward(self, y_hat: Tensor, where: Tensor) -> Tensor:
        """Context of the positions ``where``.

        Args:
            y_hat: integers, shape (inputs, H, W), zero everywhere but at the anchors.
            where: flat positions in H x W, shape (P,).

        Returns:
            shape (outputs, P).
        """
        margin = self.kernel // 2
        padded = F.pad(self.planes(y_hat), (margin,) * 4)
        width, stride = y_hat.size(2), padded.size(3)
        corner = where // width * stride + where % width
        places = torch.cat([corner + i * stride + j for i, j in self.taps])
        columns = padded.flatten(2).index_select(2, places)
        return self.times(columns.view(padded.size(0), -1, where.size(0)))

    def config(self) -> dict[str, Any]:
        outputs, inputs = self.weight.shape[:2]
        size = {"inputs": inputs, "outputs": outputs}
        return {**size, "kernel": self.kernel, "shift": self.shift}

    @classmethod
    def from_config(cls, config: Any) -> FixedContext:
        kernel = config_int(config, "kernel", 3, 31)
        if kernel % 2 == 0:
            raise CheckpointError(f"fixed-point config: context kernel {kernel} is not odd")
        return cls(
            config_int(config, "inputs", 1, 2**14),
            config_int(config, "outputs", 1, 2**14),
            kernel,
            config_int(config, "shift", 0, 30),
        )

    @classmethod
    def from_float(cls, conv: nn.Module) -> FixedContext:
        """Keep the taps that see anchors; what the mask or the zeros leave out is dropped.

        Raises:
            NotPortableError: if it is not a plain "same" convolution with an odd kernel.
        """
        fixed = FixedConv2d.from_float(conv) if isinstance(conv, nn.Conv2d) else None
        if fixed is None or fixed.stride != 1 or 2 * fixed.padding + 1 != fixed.kernel:
            raise NotPortableError(f"{conv} is not a context convolution of odd size, stride 1")
        assert isinstance(conv, nn.Conv2d)
        rows, columns = zip(*context_taps(fixed.kernel), strict=True)
        kept = masked_weight(conv)[:, :, rows, columns]
        integers, bias, shift = quantise_weights(kept, conv.bias)
        context = cls(conv.in_channels, conv.out_channels, fixed.kernel, shift)
        context.fill(integers, bias)
        return context
