"""Adding tensors to the live stream of a stock UNet, from outside and reversibly.

diffusers' own arguments reach only copies: ``down_block_additional_residuals`` adds to the skips
after the whole encoder, ``down_intrablock_additional_residuals`` once a block, and nothing reaches
the decoder. Hooks of `diffusers.hooks` on the layers themselves do; the UNet's code and weights
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from compressai_gen.errors import OptionError

NAME = "compressai_gen.injection"


@dataclass(frozen=True)
class Additions:
    """What is added in one pass of a UNet.

    Attributes:
        encoder: to the output of conv_in, of every residual block (with its attention) and of every
            downsampler, in the order of the forward pass.
        middle: to the output of the middle block.
        decoder: to the live stream before each of the decoder's residual blocks, in order: to that
            part of its input which is not the skip.
    """

    encoder: Sequence[Tensor]
    middle: Tensor
    decoder: Sequence[Tensor]


class Injection:
    """A UNet that adds what it is given: ``with Injection(unet) as injection: ...``

    Args:
        unet: a stock `UNet2DConditionModel` with any number of blocks.

    Raises:
        OptionError: if something is attached to it already.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet
        encoder, middle, decoder = live_layers(unet)
        self.sizes = (len(encoder), len(decoder))
        self._hooks = [AddToOutput() for _ in (*encoder, middle)] + [AddToLive() for _ in decoder]
        self._layers = [*encoder, middle, *decoder]
        registries = [HookRegistry.check_if_exists_or_initialize(layer) for layer in self._layers]
        if any(registry.get_hook(NAME) is not None for registry in registries):
            raise OptionError("something is attached to this UNet already: detach it first")
        for registry, hook in zip(registries, self._hooks, strict=True):
            registry.register_hook(hook, NAME)

    def set(self, additions: Additions | None) -> None:
        """What the next passes add; None for nothing.

        Raises:
            OptionError: if the UNet has another number of layers.
        """
        if additions is None:
            values: list[Tensor | None] = [None] * len(self._hooks)
        else:
            sizes = (len(additions.encoder), len(additions.decoder))
            if sizes != self.sizes:
                raise OptionError(
                    f"a control module for {sizes[0]} layers of the encoder and {sizes[1]} of the "
                    f"decoder does not fit this UNet, which has {self.sizes[0]} and "
                    f"{self.sizes[1]}: make one with DiffEICControlModel.from_unet(unet)"
                )
            values = [*additions.encoder, additions.middle, *additions.decoder]
        for hook, value in zip(self._hooks, values, strict=True):
            hook.addition = value

    def detach(self) -> None:
        """Leave the UNet as it was."""
        for layer in self._layers:
            HookRegistry.check_if_exists_or_initialize(layer).remove_hook(NAME, recurse=False)

    def __enter__(self) -> Injection:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def live_layers(unet: Any) -> tuple[list[nn.Module], nn.Module, list[nn.Module]]:
    """The layers whose outputs make up the encoder's live stream, the middle, and the decoder's
    residual blocks, which take the live stream with a skip.

    Raises:
        OptionError: if the UNet has no middle block.
    """
    encoder: list[nn.Module] = [unet.conv_in]
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None)
        encoder += list(block.resnets if attentions is None else attentions)
        encoder += list(block.downsamplers or [])
    if unet.mid_block is None:
        raise OptionError("this UNet has no middle block: nothing can be attached to it")
    return encoder, unet.mid_block, [resnet for up in unet.up_blocks for resnet in up.resnets]


class AddToOutput(ModelHook):
    """Adds to what a layer gives out: a tensor, or the first of a tuple."""

    addition: Tensor | None = None

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        if self.addition is None:
            return output
        if isinstance(output, tuple):
            return (output[0] + self.addition, *output[1:])
        return output + self.addition


class AddToLive(ModelHook):
    """Adds to the first channels of what a layer is given: the live stream, before the skip."""

    addition: Tensor | None = None

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.addition is None:
            return args, kwargs
        joined, *rest = args
        live, skip = joined.tensor_split([self.addition.shape[1]], dim=1)
        return (torch.cat([live + self.addition, skip], dim=1), *rest), kwargs
