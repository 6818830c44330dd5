"""What a metric is: the one interface that evaluation, plots and plugins share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from compressai_gen.errors import ImageError

if TYPE_CHECKING:
    from torch import Tensor


class Metric(ABC):
    """A number for one decoded picture, with or without its reference.

    A plugin registers a subclass with ``register("my-metric", "my_package.module:MyMetric")``.
    It is constructed as ``MyMetric(weights=folder)`` and called once a picture; it computes on the
    device its inputs are on. A class whose weights are missing raises `MissingWeightsError` in its
    constructor, and evaluation then skips the metric and says so.

    Example:
        >>> import torch
        >>> from compressai_gen.metrics.psnr import PsnrRgb
        >>> black, grey = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)
        >>> round(PsnrRgb()(black, grey), 2)
        20.0
    """

    #: key of the metric in result files
    name: ClassVar[str]
    #: unit for tables and axes; empty for a pure number
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    #: the shorter side of the smallest picture the metric is defined for, in pixels
    minimum_side: ClassVar[int] = 1
    #: what a reader must know to compare the number with another paper's
    note: ClassVar[str] = ""

    def __init__(self, weights: Path | None = None) -> None:
        """weights: a folder to look for the metric's weights in, before the usual places."""
        self.weights = weights

    def __call__(self, reference: Tensor, decoded: Tensor) -> float:
        """Measure one picture.

        Args:
            reference: the original, ``[1, 3, H, W]`` in [0, 1]; ignored by no-reference metrics.
            decoded: the decoded picture, same shape and range.

        Raises:
            ImageError: the shapes differ, or the picture is smaller than ``minimum_side``.
        """
        if reference.shape != decoded.shape or decoded.dim() != 4 or decoded.shape[:2] != (1, 3):
            raise ImageError(
                f"{self.name} compares two pictures of shape [1, 3, H, W], "
                f"got {list(reference.shape)} and {list(decoded.shape)}"
            )
        if min(decoded.shape[2:]) < self.minimum_side:
            raise ImageError(too_small(type(self), decoded.shape[3], decoded.shape[2]))
        return self.measure(reference, decoded)

    @abstractmethod
    def measure(self, reference: Tensor, decoded: Tensor) -> float:
        """The metric itself; shapes are checked."""


def too_small(metric: type[Metric], width: int, height: int) -> str:
    """The sentence that says why `metric` cannot judge a picture of this size."""
    return (
        f"{metric.name} needs at least {metric.minimum_side} pixels on the shorter side, "
        f"the picture is {width}x{height}"
    )
