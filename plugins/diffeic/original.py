"""Stable Diffusion 2.1-base from one file in the original (latent diffusion) layout.

The Hub is asked for nothing: the sizes stand here, diffusers' own converters rename the tensors,
and the token ids of the empty prompt need no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.checkpoints.convert import load_untrusted, unwrapped
from compressai_gen.errors import CheckpointError
from compressai_gen_plugins.diffeic.convert import RESAVE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Sizes = Mapping[str, Mapping[str, Any]]
"""Arguments of diffusers' ``unet`` and ``vae`` and of transformers' ``text`` encoder."""

SD_2_1: Sizes = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "vae": {
        "sample_size": 768,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    },
    "text": {
        "vocab_size": 49408,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,  # OpenCLIP's ViT-H without its last
        "num_attention_heads": 16,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
    },
}


def open_original(path: Path, dtype: torch.dtype, sizes: Sizes = SD_2_1) -> dict[str, Any]:
    """VAE and UNet of Stable Diffusion, and the embedding of the empty prompt.

    Args:
        path: a .safetensors, or a pickle of tensors, of which nothing is run.
        dtype: of VAE and UNet.
        sizes: of the networks.

    Returns:
        "vae", "unet" and "prompt", the last in float32 and of shape (1, tokens, width).

    Raises:
        CheckpointError: if the file is missing, damaged, holds code, or is another model's.
    """
    import torch

    content = load_untrusted(path, RESAVE)
    nested = content.get("state_dict", content) if isinstance(content, Mapping) else None
    named = nested if isinstance(nested, Mapping) else {}
    state = {unwrapped(str(k)): v for k, v in named.items() if isinstance(v, torch.Tensor)}
    try:
        vae, unet, text_encoder = networks(state, dtype, sizes)
    except (CheckpointError, LookupError) as error:
        reason = f"no {error}" if isinstance(error, LookupError) else error
        raise CheckpointError(
            f"{path} is not Stable Diffusion 2.1-base in the original layout ({reason}): give "
            "v2-1_512-ema-pruned (.safetensors or .ckpt), or a folder in diffusers' layout"
        ) from None
    return {"vae": vae, "unet": unet, "prompt": empty_prompt(text_encoder)}


def networks(state: Mapping[str, Tensor], dtype: torch.dtype, sizes: Sizes) -> tuple[Any, Any, Any]:
    """VAE, UNet and, in float32, text encoder, on the tensors of a file.

    Raises:
        CheckpointError: if one of them does not fit.
        LookupError: if diffusers' converters miss something.
    """
    import torch
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as converters
    from transformers import CLIPTextConfig, CLIPTextModel

    with init_empty_weights():
        vae: Any = AutoencoderKL(**sizes["vae"])
        unet: Any = UNet2DConditionModel(**sizes["unet"])
        text: Any = CLIPTextModel(CLIPTextConfig(**sizes["text"]))
    text = getattr(text, "text_model", text)  # transformers before 5.6 wraps it
    own = part(state, "first_stage_model.")
    fill(vae, converters.convert_ldm_vae_checkpoint(own, vae.config), dtype)
    own = part(state, "model.diffusion_model.")
    fill(unet, converters.convert_ldm_unet_checkpoint(own, unet.config), dtype)
    own = part(state, "cond_stage_model.model.")
    found = converters.convert_open_clip_checkpoint(text, own)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in found.items()}
    fill(text, {name: bare[name] for name in text.state_dict() if name in bare}, torch.float32)
    return vae, unet, text


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one network.

    Raises:
        CheckpointError: if there are none, or some that diffusers' converter passes over.
    """
    own = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not own:
        raise CheckpointError(f"no tensor of it is named {prefix}*")
    if any(name.startswith(f"{prefix}label_emb.") for name in own):
        raise CheckpointError("its UNet sees more than a text: label_emb")
    return own


def fill(model: Any, state: Mapping[str, Tensor | None], dtype: torch.dtype) -> None:
    """Make tensors the network's own, with none missing, left over or of another shape.

    Raises:
        CheckpointError: names what does not fit.
    """
    try:
        cast = {name: tensor.to(dtype) for name, tensor in state.items() if tensor is not None}
        model.load_state_dict(cast, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{type(model).__name__}: {reason:.200}") from None
    model.eval()


def empty_prompt(text_encoder: Any) -> Tensor:
    """The embedding of "", which SD 2's tokenizer writes as start, end and then zeros."""
    import torch

    config = text_encoder.config
    padding = [0] * (config.max_position_embeddings - 2)
    tokens = torch.tensor([[config.vocab_size - 2, config.vocab_size - 1, *padding]])
    with torch.no_grad():
        embedding: Tensor = text_encoder(tokens)[0]
    return embedding
