"""What tells COOL-CHIC v1 and v2 apart."""

from __future__ import annotations

from dataclasses import dataclass

GRIDS = 7
"""Grid i has 1/2**i of the resolution, rounded up."""

OPEN = 0.5
"""First bias of v2's three rectified channels, which all of the picture goes through.

Published is 0, from where one of the three can be off for half of the pixels, for good.
"""


@dataclass(frozen=True)
class Layer:
    """A convolution of the synthesis.

    Attributes:
        outputs: channels.
        kernel: side, pixels.
        residual: a skip around it.
        relu: after it.
        bias: that its channels start with.
    """

    outputs: int
    kernel: int
    residual: bool
    relu: bool
    bias: float = 0.0


@dataclass(frozen=True)
class Version:
    """What tells the versions apart.

    Attributes:
        name: in the zoo.
        radius: of the causal neighbourhood, latents.
        layers: of the synthesis.
        learned_upsampling: one 8x8 kernel for all levels, sent; bicubic otherwise.
        least_gain: of the grids.
        clip: of the gradient's norm.
        noise_slope, round_slope: what the gradient of a quantised latent is multiplied with.
        uniform_start: the synthesis starts from torch's uniform weights, not from normal ones; both
            are divided by the square of a layer's outputs.
    """

    name: str
    radius: int
    layers: tuple[Layer, ...]
    learned_upsampling: bool
    least_gain: float
    clip: float
    noise_slope: float
    round_slope: float
    uniform_start: bool

    @property
    def context(self) -> int:
        """Latents in the neighbourhood, and width of the autoregressive model."""
        return len(offsets(self.radius))


V1 = Version(
    "cool-chic-v1",
    radius=2,
    layers=(Layer(12, 1, False, True), Layer(12, 1, True, True), Layer(3, 1, False, False)),
    learned_upsampling=False,
    least_gain=0.0,
    clip=10.0,
    noise_slope=1.0,
    round_slope=1.0,
    uniform_start=False,
)
V2 = Version(
    "cool-chic-v2",
    radius=3,
    layers=(
        Layer(40, 1, False, True),
        Layer(3, 1, False, True, bias=OPEN),
        Layer(3, 3, True, True),
        Layer(3, 3, True, False),
    ),
    learned_upsampling=True,
    least_gain=1.0,
    clip=0.1,
    noise_slope=100.0,
    round_slope=0.01,
    uniform_start=True,
)
VERSIONS = {version.name: version for version in (V1, V2)}


def offsets(radius: int) -> list[tuple[int, int]]:
    """Row and column of the causal neighbours, in raster order: rows above, then to the left."""
    square = range(-radius, radius + 1)
    return [(i, j) for i in range(-radius, 1) for j in square if (i, j) < (0, 0)]


def multiplications(version: Version) -> float:
    """Multiplications a pixel: of the Arm, on 4/3 latents a pixel, and of the synthesis."""
    width = version.context
    arm = 4 / 3 * width * (2 * width + 2)
    widths = [GRIDS, *(layer.outputs for layer in version.layers)]
    pairs = zip(widths, version.layers, strict=False)
    return arm + sum(a * layer.outputs * layer.kernel**2 for a, layer in pairs)
