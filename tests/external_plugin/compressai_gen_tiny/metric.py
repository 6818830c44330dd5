"""A metric for `cgen evaluate --metrics mae-rgb`."""

from compressai_gen.metrics.base import Metric


class MeanAbsoluteError(Metric):
    """Mean absolute difference of 8-bit RGB values."""

    name = "mae-rgb"
    unit = "levels"
    higher_is_better = False

    def measure(self, reference, decoded):
        return 255 * float((reference - decoded).abs().mean())
