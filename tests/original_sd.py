"""A Stable Diffusion 2 of diffusers under the names of the original file.

Written from the published latent diffusion code and OpenCLIP's; no converter is used here, so that
one can be compared with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def original(vae, unet, text) -> State:
    """The whole file's tensors, the ones that are not needed among them."""
    state = {f"model.diffusion_model.{k}": v for k, v in unet_state(unet).items()}
    state |= {f"first_stage_model.{k}": v for k, v in vae_state(vae).items()}
    state |= {f"cond_stage_model.model.{k}": v for k, v in text_state(text).items()}
    return state | {"betas": torch.zeros(1000), "model_ema.decay": torch.tensor(0.9999)}


def moved(state: State, modules: dict[str, str]) -> State:
    """Every tensor below its module's new name."""
    names = {}
    for name, tensor in state.items():
        old = max((m for m in modules if name.startswith(f"{m}.")), key=len)
        names[modules[old] + name[len(old) :]] = tensor
    return names


def unet_state(unet) -> State:
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
    }
    residual = {"mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2"}
    for level, block in enumerate(unet.down_blocks):
        start = 1 + level * (len(block.resnets) + 1)
        for k in range(len(block.resnets)):
            residual[f"down_blocks.{level}.resnets.{k}"] = f"input_blocks.{start + k}.0"
            modules[f"down_blocks.{level}.attentions.{k}"] = f"input_blocks.{start + k}.1"
        down = f"input_blocks.{start + len(block.resnets)}.0.op"
        modules[f"down_blocks.{level}.downsamplers.0.conv"] = down
    for level, block in enumerate(unet.up_blocks):
        start = level * len(block.resnets)
        for k in range(len(block.resnets)):
            residual[f"up_blocks.{level}.resnets.{k}"] = f"output_blocks.{start + k}.0"
            modules[f"up_blocks.{level}.attentions.{k}"] = f"output_blocks.{start + k}.1"
        place = 2 if hasattr(block, "attentions") else 1
        up = f"output_blocks.{start + len(block.resnets) - 1}.{place}.conv"
        modules[f"up_blocks.{level}.upsamplers.0.conv"] = up
    for ours, theirs in residual.items():
        modules |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in RESIDUAL.items()}
    return moved(unet.state_dict(), modules)


def vae_state(vae) -> State:
    modules = {name: name for name in ("quant_conv", "post_quant_conv")}
    residual = {}
    levels = len(vae.encoder.down_blocks)
    for side in ("encoder", "decoder"):
        modules |= {f"{side}.{name}": f"{side}.{name}" for name in ("conv_in", "conv_out")}
        modules[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        residual |= {f"{side}.mid_block.resnets.{k}": f"{side}.mid.block_{k + 1}" for k in (0, 1)}
        attention = f"{side}.mid_block.attentions.0"
        modules |= {f"{attention}.{a}": f"{side}.mid.attn_1.{b}" for a, b in ATTENTION.items()}
    for k in range(levels):
        down, up = f"encoder.down.{k}", f"decoder.up.{levels - 1 - k}"
        for layer in range(len(vae.decoder.up_blocks[k].resnets)):
            residual[f"encoder.down_blocks.{k}.resnets.{layer}"] = f"{down}.block.{layer}"
            residual[f"decoder.up_blocks.{k}.resnets.{layer}"] = f"{up}.block.{layer}"
        modules[f"encoder.down_blocks.{k}.downsamplers.0.conv"] = f"{down}.downsample.conv"
        modules[f"decoder.up_blocks.{k}.upsamplers.0.conv"] = f"{up}.upsample.conv"
    for ours, theirs in residual.items():
        modules |= {ours: theirs, f"{ours}.conv_shortcut": f"{theirs}.nin_shortcut"}
    state = moved(vae.state_dict(), modules)
    return {k: v[..., None, None] if is_projection(k) else v for k, v in state.items()}


def is_projection(name: str) -> bool:
    """Whether it is a 1x1 convolution there and a linear layer in diffusers."""
    return ".attn_1." in name and ".norm." not in name and name.endswith("weight")


def text_state(text) -> State:
    """OpenCLIP's, which joins q, k and v, with the last layer and the projection, both unused."""
    own = {name.removeprefix("text_model."): v for name, v in text.state_dict().items()}
    names = {
        "token_embedding.weight": own["embeddings.token_embedding.weight"],
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "ln_final.weight": own["final_layer_norm.weight"],
        "ln_final.bias": own["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    count = text.config.num_hidden_layers
    for k in range(count):
        ours, theirs = f"encoder.layers.{k}", f"transformer.resblocks.{k}"
        for leaf in ("weight", "bias"):
            for a, b in LAYER.items():
                names[f"{theirs}.{b}.{leaf}"] = own[f"{ours}.{a}.{leaf}"]
            joined = [own[f"{ours}.self_attn.{x}_proj.{leaf}"] for x in "qkv"]
            names[f"{theirs}.attn.in_proj_{leaf}"] = torch.cat(joined)
    last = f"resblocks.{count - 1}."
    unused = {k.replace(last, f"resblocks.{count}."): v + 1 for k, v in names.items() if last in k}
    width = text.config.hidden_size
    return names | unused | {"text_projection": torch.eye(width)}
