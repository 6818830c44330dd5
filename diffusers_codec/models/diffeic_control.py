"""DiffEIC's control module: a fifth of a UNet that steers a whole one towards the content variable.

Li et al., "Toward Extreme Image Compression with Latent Feature Guidance and Diffusion Prior",
TCSVT 2024 (arXiv 2404.18820), section III-B.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from accelerate.utils.modeling import get_state_dict_offloaded_model
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn, get_down_block
from torch import Tensor, nn

from compressai_gen.errors import OptionError
from diffusers_codec.models.injection import Additions

ACTIVATION = "silu"
HEAD_CHANNELS = 16
"""Channels of one attention head, as released."""


class DiffEICControlModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as in diffusers
    """Encoder and middle of a narrow UNet, over x_t and z_c; what it sees is added to a stock UNet.

    .. code-block:: none

        x_t, z_c ─► cat ─► conv ─► down blocks ─────────────► middle          control, 20 % wide
                            │        │ │ │                      │
                          zero     zero convolutions (1x1)    zero
                            ▼        ▼ ▼ ▼                      ▼
        x_t ──────────────► conv ─► down blocks ──────────────► middle ─► up blocks ─► eps
                                                                            ▲
                                         the same features, last first ── zero, before each skip

    The UNet is stock and stays unmodified (:class:`diffusers_codec.models.injection.Injection`):
    fresh, with all zero convolutions at zero, the two give exactly the UNet's output. Blocks are
    those of diffusers. The defaults are the released module (19.9 M + 4.5 M parameters of the zero
    convolutions) for Stable Diffusion 2.1.

    Args:
        latent_channels: of x_t.
        condition_channels: of z_c.
        block_out_channels: of the module.
        unet_channels: ``block_out_channels`` of the UNet it steers.
        down_block_types: "CrossAttnDownBlock2D" or "DownBlock2D" for each level.
        layers_per_block: residual blocks a level; the UNet's.
        transformer_layers_per_block: the UNet's.
        cross_attention_dim: width of the prompt's embedding; the UNet's.
        head_channels: channels of one attention head.
        time_channels: of the sinusoids of t; they are embedded in four times as many.
        norm_num_groups: of the group norms.
        prompt_tokens: of the prompt's embedding that goes with the module, :attr:`prompt`.
        saved_fingerprint: of the weights; written when saving, so that a module keeps its name in
            whatever precision it is loaded.
        use_linear_projection, flip_sin_to_cos, freq_shift, norm_eps: as in the UNet.
    """

    _supports_gradient_checkpointing = True
    prompt: Tensor
    """What UNet and module see instead of a text, (1, prompt_tokens, cross_attention_dim): the
    embedding of the empty prompt for a UNet that was trained with texts, zeros at first."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        condition_channels: int = 4,
        block_out_channels: Sequence[int] = (64, 128, 256, 256),
        unet_channels: Sequence[int] = (320, 640, 1280, 1280),
        down_block_types: Sequence[str] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        layers_per_block: int = 2,
        transformer_layers_per_block: int = 1,
        cross_attention_dim: int = 1024,
        head_channels: int = HEAD_CHANNELS,
        time_channels: int = 320,
        norm_num_groups: int = 32,
        use_linear_projection: bool = True,
        flip_sin_to_cos: bool = True,
        freq_shift: float = 0,
        norm_eps: float = 1e-5,
        prompt_tokens: int = 77,
        saved_fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("prompt", torch.zeros(1, prompt_tokens, cross_attention_dim))
        widths, levels = tuple(block_out_channels), len(block_out_channels)
        embedded = 4 * time_channels
        self.time_proj = Timesteps(time_channels, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(time_channels, embedded, act_fn=ACTIVATION)
        self.conv_in = nn.Conv2d(latent_channels + condition_channels, widths[0], 3, padding=1)
        common: dict[str, Any] = {
            "transformer_layers_per_block": transformer_layers_per_block,
            "resnet_eps": norm_eps,
            "resnet_act_fn": ACTIVATION,
            "resnet_groups": norm_num_groups,
            "cross_attention_dim": cross_attention_dim,
            "use_linear_projection": use_linear_projection,
        }
        self.down_blocks = nn.ModuleList(
            get_down_block(
                kind,
                num_layers=layers_per_block,
                in_channels=inputs,
                out_channels=outputs,
                temb_channels=embedded,
                add_downsample=level < levels - 1,
                num_attention_heads=max(1, outputs // head_channels),
                attention_head_dim=head_channels,
                downsample_padding=1,
                **common,
            )
            for level, (kind, (inputs, outputs)) in enumerate(
                zip(down_block_types, pairwise((widths[0], *widths)), strict=True)
            )
        )
        self.mid_block = UNetMidBlock2DCrossAttn(
            in_channels=widths[-1],
            temb_channels=embedded,
            num_attention_heads=max(1, widths[-1] // head_channels),
            **common,
        )
        own = stream_channels(widths, layers_per_block)
        encoder = stream_channels(unet_channels, layers_per_block)
        decoder = live_channels(unet_channels, layers_per_block)
        self.encoder_convs = zero_convolutions(own, encoder)
        self.middle_conv = zero_convolutions(widths[-1:], unet_channels[-1:])[0]
        self.decoder_convs = zero_convolutions(own[::-1], decoder)

    def forward(
        self, sample: Tensor, timestep: Tensor | float, z_c: Tensor, encoder_hidden_states: Tensor
    ) -> Additions:
        """What to add to the UNet's pass over the same sample.

        Args:
            sample: x_t, shape (B, latent_channels, h, w).
            timestep: t, a number or of shape (B,).
            z_c: shape (B, condition_channels, h, w).
            encoder_hidden_states: the prompt's embedding, shape (B, tokens, cross_attention_dim).
        """
        time = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        embedding = self.time_embedding(self.time_proj(time).to(sample.dtype))
        h = self.conv_in(torch.cat([sample, z_c.to(sample.dtype)], dim=1))
        stream: list[Tensor] = [h]
        for block in self.down_blocks:
            attends = getattr(block, "has_cross_attention", False)
            prompt = {"encoder_hidden_states": encoder_hidden_states} if attends else {}
            h, states = block(h, embedding, **prompt)
            stream += states
        middle = self.mid_block(h, embedding, encoder_hidden_states=encoder_hidden_states)
        return Additions(
            [conv(s) for conv, s in zip(self.encoder_convs, stream, strict=True)],
            self.middle_conv(middle),
            [conv(s) for conv, s in zip(self.decoder_convs, reversed(stream), strict=True)],
        )

    def fingerprint(self) -> str:
        """Hexadecimal name of the weights: as saved, or as they are in a module never saved."""
        return str(self.config["saved_fingerprint"] or self._digest())

    def _digest(self) -> str:
        digest, tensors = hashlib.sha256(), self.state_dict()
        if any(tensor.is_meta for tensor in tensors.values()):  # offloaded layer by layer
            tensors |= get_state_dict_offloaded_model(self)
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def save_pretrained(  # a pipeline looks for these names in the signature
        self,
        save_directory: str | os.PathLike[Any],
        is_main_process: bool = True,
        save_function: Callable[..., Any] | None = None,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
        push_to_hub: bool = False,
        use_flashpack: bool = False,
        **options: Any,
    ) -> None:
        """Save as ``ModelMixin.save_pretrained`` does, with the fingerprint of these weights."""
        self.register_to_config(saved_fingerprint=self._digest())
        super().save_pretrained(
            save_directory,
            is_main_process=is_main_process,
            save_function=save_function,
            safe_serialization=safe_serialization,
            variant=variant,
            max_shard_size=max_shard_size,
            push_to_hub=push_to_hub,
            use_flashpack=use_flashpack,
            **options,
        )

    @classmethod
    def from_unet(
        cls,
        unet: UNet2DConditionModel,
        ratio: float = 0.2,
        *,
        condition_channels: int = 4,
        prompt: Tensor | None = None,
    ) -> DiffEICControlModel:
        """A fresh module for a UNet, with the leading channels of its weights.

        Args:
            unet: of any width, with attention in its middle.
            ratio: the module's widths over the UNet's, rounded to whole attention heads.
            condition_channels: of z_c; their part of the first convolution starts random.
            prompt: embedding of the empty prompt, (1, tokens, width), for a UNet that was trained
                with texts; None for one token of zeros.

        Raises:
            OptionError: for a ratio outside (0, 1], or a UNet of another kind.
        """
        stock: Any = unet  # diffusers' classes are not typed
        config = stock.config
        if not 0 < ratio <= 1:
            raise OptionError(f"ratio {ratio:g} of the control module: more than 0, at most 1")
        kinds = {"CrossAttnDownBlock2D", "DownBlock2D"}
        if not kinds.issuperset(config.down_block_types) or not isinstance(
            stock.mid_block, UNetMidBlock2DCrossAttn
        ):
            raise OptionError(
                f"a UNet of {', '.join(config.down_block_types)} and {config.mid_block_type} "
                f"cannot be steered: blocks of {', '.join(sorted(kinds))} can, with "
                "UNetMidBlock2DCrossAttn in the middle"
            )
        head = HEAD_CHANNELS
        widths = [max(head, round(c * ratio / head) * head) for c in config.block_out_channels]
        layers = config.transformer_layers_per_block
        control = cls(
            latent_channels=config.in_channels,
            condition_channels=condition_channels,
            block_out_channels=widths,
            unet_channels=list(config.block_out_channels),
            down_block_types=list(config.down_block_types),
            layers_per_block=config.layers_per_block,
            transformer_layers_per_block=layers if isinstance(layers, int) else layers[0],
            cross_attention_dim=config.cross_attention_dim,
            time_channels=config.block_out_channels[0],
            norm_num_groups=common_groups(widths, config.norm_num_groups),
            use_linear_projection=config.use_linear_projection,
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
            norm_eps=config.norm_eps,
            prompt_tokens=1 if prompt is None else prompt.shape[1],
        )
        if prompt is not None:
            control.prompt.copy_(prompt)
        crop(control, stock)
        return control


@torch.no_grad()
def crop(control: nn.Module, unet: nn.Module) -> None:
    """Copy from every tensor of the UNet the part that fits into the one of the same name."""
    source = unet.state_dict()
    for name, own in control.state_dict().items():
        if name in source:
            part = tuple(
                slice(0, min(a, b)) for a, b in zip(own.shape, source[name].shape, strict=True)
            )
            own[part] = source[name][part].to(own)


def stream_channels(widths: Sequence[int], layers: int) -> list[int]:
    """Channels of the encoder's live stream: after conv_in, each block and each halving."""
    channels = [widths[0]]
    for level, width in enumerate(widths):
        channels += [width] * (layers + (level < len(widths) - 1))
    return channels


def live_channels(widths: Sequence[int], layers: int) -> list[int]:
    """Channels of the decoder's live stream before each of its residual blocks."""
    backwards = list(widths)[::-1]
    return [
        width
        for before, own in pairwise((backwards[0], *backwards))
        for width in (before, *[own] * layers)
    ]


def zero_convolutions(inputs: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """1x1 convolutions that start at zero."""
    convolutions = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(inputs, outputs, strict=True))
    for parameter in convolutions.parameters():
        nn.init.zeros_(parameter)
    return convolutions


def common_groups(widths: Sequence[int], most: int) -> int:
    """The largest number of groups, at most ``most``, that divides all widths."""
    return next(g for g in range(most, 0, -1) if all(width % g == 0 for width in widths))
