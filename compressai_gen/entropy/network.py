"""A chain of fixed-point layers, from a trained module or from a stored config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from compressai_gen.entropy.activations import FixedGELU, FixedLeakyReLU
from compressai_gen.entropy.arithmetic import config_int
from compressai_gen.entropy.convolutions import FixedConv2d, FixedConvTranspose2d, FixedWeights
from compressai_gen.entropy.groups import FixedGroups
from compressai_gen.errors import CheckpointError, NotPortableError


class FixedPixelShuffle(nn.PixelShuffle):
    """Moves integers about, so it is exact as it is."""

    kind = "pixel_shuffle"

    def config(self) -> dict[str, Any]:
        return {"factor": self.upscale_factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FixedPixelShuffle:
        return cls(config_int(config, "factor", 1, 16))

    @classmethod
    def from_float(cls, layer: nn.PixelShuffle) -> FixedPixelShuffle:
        return cls(layer.upscale_factor)


FIXED: dict[type[nn.Module], Any] = {
    nn.Conv2d: FixedConv2d,
    nn.ConvTranspose2d: FixedConvTranspose2d,
    nn.ReLU: FixedLeakyReLU,
    nn.LeakyReLU: FixedLeakyReLU,
    nn.GELU: FixedGELU,
    nn.PixelShuffle: FixedPixelShuffle,
}
KINDS: dict[str, Any] = {fixed.kind: fixed for fixed in (*FIXED.values(), FixedGroups)}
MAX_LAYERS = 256


class FixedNetwork(nn.Sequential):
    """A feed-forward network in fixed point: (C, H, W) integers in float64 to (C', H', W')."""

    @classmethod
    def from_float(cls, module: nn.Module) -> FixedNetwork:
        """Convert a (nested) ``nn.Sequential`` of the layers in :data:`FIXED`.

        Raises:
            NotPortableError: for a layer that has no fixed-point form.
            CodecError: if a layer's sums could leave the exact range.
        """
        return cls(*(_fixed(layer) for layer in flat(module)))

    @classmethod
    def from_config(cls, config: Any) -> FixedNetwork:
        """An empty network of the right shapes.

        Raises:
            CheckpointError: if ``config`` did not come from :meth:`config`.
        """
        if not isinstance(config, list) or not 0 < len(config) <= MAX_LAYERS:
            raise CheckpointError("fixed-point config: expected a list of layers")
        return cls(*(_from_config(layer) for layer in config))

    def config(self) -> list[dict[str, Any]]:
        """JSON-able: the kind and arguments of every layer."""
        return [{"kind": layer.kind, **layer.config()} for layer in self]  # type: ignore

    def channels(self) -> tuple[int, int]:
        """Channels that go in and that come out.

        Raises:
            CheckpointError: if a layer does not take what the one before it gives.
        """
        first, current = 0, 0
        for layer in self:
            if isinstance(layer, (FixedWeights, FixedGroups)):
                inputs, outputs = layer.channels()
                if inputs != (current or inputs):
                    raise CheckpointError(f"a {layer.kind} for {inputs} inputs gets {current}")
                first, current = first or inputs, outputs
            elif isinstance(layer, FixedPixelShuffle):
                current, rest = divmod(current, layer.upscale_factor**2)
                if rest:
                    raise CheckpointError("a pixel shuffle gets channels that it cannot divide")
        if not first:
            raise CheckpointError("a fixed-point network needs at least one convolution")
        return first, current

    def columns(self, x: Tensor, skip: int = 0) -> Tensor:
        """The network on single positions, for pointwise networks only.

        Args:
            x: shape (C, P).
            skip: number of leading input channels that are zero and left out of ``x``; trailing
                ones may be left out as well.

        Returns:
            shape (C', P).
        """
        for layer in self:
            x = layer.columns(x, skip) if isinstance(layer, FixedWeights) else layer(x)
            skip = 0
        return x

    def check_pointwise(self) -> None:
        """Raises NotPortableError if a layer looks beyond its own position."""
        for layer in self:
            pointwise = isinstance(layer, (FixedLeakyReLU, FixedGELU))
            if not pointwise and getattr(layer, "kernel", 0) != 1:
                raise NotPortableError(
                    f"entropy_parameters holds a {layer.kind} that is not pointwise; "
                    "the checkerboard needs 1x1 convolutions and activations only"
                )


def flat(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a (nested) ``nn.Sequential`` in their order."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            yield from flat(layer)
    elif not isinstance(module, nn.Identity):
        yield module


def _fixed(layer: nn.Module) -> nn.Module:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.groups > 1:
        return FixedGroups.from_float(layer)
    for kind, fixed in FIXED.items():
        if isinstance(layer, kind):
            return fixed.from_float(layer)
    raise NotPortableError(
        f"{type(layer).__name__} has no fixed-point form; the entropy path may hold "
        f"{', '.join(kind.__name__ for kind in FIXED)}"
    )


def _from_config(config: Any) -> nn.Module:
    kind = config.get("kind") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(f"fixed-point config: unknown layer {kind!r}, known: {sorted(KINDS)}")
    return KINDS[kind].from_config(config)
