"""The released DiffEIC from its description: names and shapes; `reference_diffeic` calculates.

Nothing of ours is used here, so that a converted checkpoint can be compared with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """Those of the released model by default."""

    N: int = 192
    stages: tuple[int, int, int] = (64, 128, 192)
    groups: tuple[int, ...] = (8, 8, 8, 8, 16, 16, 32, 32, 96, 96)
    features: int = 64
    context: tuple[int, int] = (224, 128)
    control: tuple[int, ...] = (64, 128, 256, 256)
    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    prompt: int = 1024

    @property
    def M(self) -> int:
        return sum(self.groups)


TINY = Sizes(16, (8, 8, 12), (4, 4, 8), 8, (12, 8), (32, 32), (64, 64), 12)


def conv(name: str, inputs: int, outputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def deconv(name: str, inputs: int, outputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs, kernel, kernel), f"{name}.bias": (outputs,)}


def linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs)}
    return shapes | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def chain(name: str, *layers: tuple[int, int, int]) -> Shapes:
    """Convolutions with an activation between them."""
    shapes: Shapes = {}
    for k, layer in enumerate(layers):
        shapes |= conv(f"{name}.{2 * k}", *layer)
    return shapes


def down(name: str, a: int, b: int) -> Shapes:
    return (
        conv(f"{name}.conv1", a, b, 3)
        | conv(f"{name}.conv2", b, b, 3)
        | conv(f"{name}.downsample", a, b, 1)
    )


def bottleneck(name: str, c: int) -> Shapes:
    return chain(f"{name}.branch", (c, c // 2, 1), (c // 2, c // 2, 3), (c // 2, c, 1))


def sft(name: str, c: int, features: int) -> Shapes:
    shapes = conv(f"{name}.mlp_shared.0", features, 2 * features, 3)
    for leaf in ("mlp_gamma", "mlp_beta"):
        shapes |= conv(f"{name}.{leaf}", 2 * features, c, 3)
    return shapes


def sft_block(name: str, c: int, features: int) -> Shapes:
    shapes: Shapes = {}
    for k in (0, 1):
        shapes |= sft(f"{name}.norm_{k}", c, features) | conv(f"{name}.conv_{k}", c, c, 3)
    return shapes


def codec_shapes(s: Sizes = Sizes()) -> Shapes:
    """``preprocess_model``, without tables and without the prefix."""
    N, M, f = s.N, s.M, s.features
    shapes = chain("encoder.sft_1_8", (4, f, 3), (f, f, 1))
    shapes |= chain("encoder.sft_1_16", (f, f, 3), (f, f, 1))
    shapes |= chain("encoder.sft_1_16_2", (f, f, 3), (f, f, 1))
    for k, (a, b) in enumerate(zip((3, *s.stages), s.stages, strict=False)):
        shapes |= down(f"encoder.g_a1.{4 * k}", a, b)
        for j in range(1, 4):
            shapes |= bottleneck(f"encoder.g_a1.{4 * k + j}", b)
    shapes |= sft("encoder.g_a1_ref", s.stages[2], f) | down("encoder.g_a2.0", s.stages[2], N)
    for j in range(1, 4):
        shapes |= bottleneck(f"encoder.g_a2.{j}", N)
    shapes |= sft("encoder.g_a2_ref", N, f) | conv("encoder.g_a3", N, N, 3)
    shapes |= sft_block("encoder.g_a4", N, f) | sft_block("encoder.g_a5", N, f)
    shapes |= conv("encoder.g_a6", N, M, 3)
    h = "hyper_enc"
    shapes |= chain(f"{h}.sft_feature", (4, f, 3), (f, f, 1))
    shapes |= chain(f"{h}.sft_feature_h1", (f + M, 4 * f, 3), (4 * f, 2 * f, 3), (2 * f, f, 3))
    shapes |= chain(f"{h}.sft_feature_h2", (f, f, 3), (f, f, 1))
    shapes |= chain(f"{h}.sft_feature_h3", (f, f, 3), (f, f, 1))
    shapes |= conv(f"{h}.h_a0", M, N, 3) | sft(f"{h}.h_a1", N, f)
    shapes |= conv(f"{h}.h_a3", N, N, 5) | sft(f"{h}.h_a4", N, f)
    shapes |= conv(f"{h}.h_a6", N, N, 5) | sft_block(f"{h}.h_a7", N, f)
    shapes |= sft_block(f"{h}.h_a8", N, f) | conv(f"{h}.h_a9", N, N, 1)
    for name, widths in (
        ("hyper_dec.hyper_dec", (N, M, M * 3 // 2, 2 * M)),
        ("f_c", (N, N // 2, N // 4, N // 4)),
    ):
        for k, kernel in enumerate((5, 5, 3)):
            shapes |= deconv(f"{name}.{2 * k}", widths[k], widths[k + 1], kernel)
    d = "decoder"
    shapes |= chain(
        f"{d}.sft_feature_gs1", (N // 4 + M, 4 * f, 3), (4 * f, 2 * f, 3), (2 * f, f, 3)
    )
    shapes |= sft_block(f"{d}.g_s0", M, f) | sft_block(f"{d}.g_s1", M, f)
    shapes |= chain(f"{d}.sft_feature_gs2", (f, f, 3), (f, f, 1))
    shapes |= conv(f"{d}.g_s2.0", M, N, 3) | sft(f"{d}.g_s2_ref", N, f)
    shapes |= deconv(f"{d}.sft_feature_gs3.0", f, f, 3) | conv(f"{d}.sft_feature_gs3.2", f, f, 1)
    shapes |= conv(f"{d}.g_s3.0.subpel_conv.0", N, 4 * N, 1) | conv(f"{d}.g_s3.0.conv", N, N, 3)
    shapes |= conv(f"{d}.g_s3.0.upsample.0", N, 4 * N, 1) | sft(f"{d}.g_s3_ref", N, f)
    for j in range(1, 4):
        shapes |= bottleneck(f"{d}.g_s2.{j}", N) | bottleneck(f"{d}.g_s3.{j}", N)
    shapes |= conv(f"{d}.g_s4", N, 4, 3)
    done = 0
    for i, size in enumerate(s.groups):
        o = 2 * size
        shapes |= conv(f"local_context.{i}", size, o, 5)
        if i:
            a, b = s.context
            shapes |= chain(f"channel_context.{i}.fushion", (done, a, 5), (a, b, 5), (b, o, 5))
        known = 2 * M + (o if i else 0)
        inner = ((o * 5 // 3, o * 4 // 3, 1), (o * 4 // 3, o, 1))
        anchor, nonanchor = (known, o * 5 // 3, 1), (known + o, o * 5 // 3, 1)
        shapes |= chain(f"entropy_parameters_anchor.{i}.fusion", anchor, *inner)
        shapes |= chain(f"entropy_parameters_nonanchor.{i}.fusion", nonanchor, *inner)
        done += size
    filters = (1, 3, 3, 3, 3, 1)
    for k in range(5):
        shapes[f"entropy_bottleneck._matrix{k}"] = (N, filters[k + 1], filters[k])
        shapes[f"entropy_bottleneck._bias{k}"] = (N, filters[k + 1], 1)
        if k < 4:
            shapes[f"entropy_bottleneck._factor{k}"] = (N, filters[k + 1], 1)
    shapes["entropy_bottleneck.quantiles"] = (N, 1, 3)
    shapes["entropy_bottleneck.target"] = (3,)
    return shapes


def control_shapes(s: Sizes = Sizes(), attention: tuple[int, ...] = (0, 1, 2)) -> Shapes:
    """``control_model`` without the prefix; ``attention``: the levels that have it."""
    root, embedded = "control_model", 4 * s.unet[0]
    shapes = linear(f"{root}.time_embed.0", s.unet[0], embedded)
    shapes |= linear(f"{root}.time_embed.2", embedded, embedded)
    shapes |= conv(f"{root}.input_blocks.0.0", 8, s.control[0], 3)
    stream, own, before, block = [s.unet[0]], [s.control[0]], s.control[0], 1
    for level, (width, whole) in enumerate(zip(s.control, s.unet, strict=True)):
        for _ in range(2):
            shapes |= residual(f"{root}.input_blocks.{block}.0", before, width, embedded)
            if level in attention:
                shapes |= transformer(f"{root}.input_blocks.{block}.1", width, s.prompt)
            stream, own, before, block = [*stream, whole], [*own, width], width, block + 1
        if level < len(s.control) - 1:
            shapes |= conv(f"{root}.input_blocks.{block}.0.op", width, width, 3)
            stream, own, block = [*stream, whole], [*own, width], block + 1
    top = s.control[-1]
    shapes |= residual(f"{root}.middle_block.0", top, top, embedded)
    shapes |= transformer(f"{root}.middle_block.1", top, s.prompt)
    shapes |= residual(f"{root}.middle_block.2", top, top, embedded)
    for k, (a, b) in enumerate(zip(own, stream, strict=True)):
        shapes |= conv(f"enc_zero_convs_out.{k}.0", a, b, 1)
    shapes |= conv("middle_block_out.0", top, s.unet[-1], 1)
    backwards, live = s.unet[::-1], []
    for before, width in zip((backwards[0], *backwards), backwards, strict=False):
        live += [before, width, width]
    for k, (a, b) in enumerate(zip(own[::-1], live, strict=True)):
        shapes |= conv(f"dec_zero_convs_out.{k}.0", a, b, 1)
    shapes["scale_list"] = (2 * len(own) + 1,)
    return shapes


def residual(name: str, a: int, b: int, embedded: int) -> Shapes:
    shapes = norm(f"{name}.in_layers.0", a) | conv(f"{name}.in_layers.2", a, b, 3)
    shapes |= linear(f"{name}.emb_layers.1", embedded, b)
    shapes |= norm(f"{name}.out_layers.0", b) | conv(f"{name}.out_layers.3", b, b, 3)
    return shapes | (conv(f"{name}.skip_connection", a, b, 1) if a != b else {})


def transformer(name: str, c: int, prompt: int) -> Shapes:
    t = f"{name}.transformer_blocks.0"
    shapes = norm(f"{name}.norm", c) | linear(f"{name}.proj_in", c, c)
    for k, context in ((1, c), (2, prompt)):
        shapes |= linear(f"{t}.attn{k}.to_q", c, c, bias=False)
        shapes |= linear(f"{t}.attn{k}.to_k", context, c, bias=False)
        shapes |= linear(f"{t}.attn{k}.to_v", context, c, bias=False)
        shapes |= linear(f"{t}.attn{k}.to_out.0", c, c)
    shapes |= linear(f"{t}.ff.net.0.proj", c, 8 * c) | linear(f"{t}.ff.net.2", 4 * c, c)
    for k in (1, 2, 3):
        shapes |= norm(f"{t}.norm{k}", c)
    return shapes | linear(f"{name}.proj_out", c, c)


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights that keep activations near one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator)
        if name == "scale_list":
            x = torch.ones(shape)
        elif name.endswith("quantiles"):
            x = torch.tensor([-9.0, 0.25, 9.5]).expand(shape).clone()
        elif name.endswith("target"):
            x = torch.tensor([-4.0, 0.0, 4.0])
        elif len(shape) >= 2 and "entropy_bottleneck" not in name:
            x = x / math.prod(shape[1:]) ** 0.5
        elif "norm" in name and name.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x = 0.2 * x
        state[name] = x
    return state
