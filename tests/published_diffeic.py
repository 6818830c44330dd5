"""The released DiffEIC from its description: names, shapes, and plain arithmetic.

Nothing of ours is used here, so that a converted checkpoint can be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


# -- the arithmetic -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The networks of a released state dict, one layer after the other.

    Args:
        state: released names, without the prefix of the part.
    """

    state: Mapping[str, Tensor]

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.state[f"{name}.bias"], stride, padding)

    def up(self, x: Tensor, name: str, stride: int = 2) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        padding = weight.shape[-1] // 2
        return F.conv_transpose2d(x, weight, bias, stride, padding, stride - 1)

    def chain(self, x: Tensor, name: str, count: int, stride: int = 1) -> Tensor:
        for k in range(count):
            x = self.conv(x if k == 0 else F.gelu(x), f"{name}.{2 * k}", stride if k == 0 else 1)
        return x

    def sft(self, x: Tensor, name: str, features: Tensor) -> Tensor:
        features = F.adaptive_avg_pool2d(features, x.shape[-2:])
        h = F.leaky_relu(self.conv(features, f"{name}.mlp_shared.0"), 0.2)
        return x * (1 + self.conv(h, f"{name}.mlp_gamma")) + self.conv(h, f"{name}.mlp_beta")

    def sft_block(self, x: Tensor, name: str, features: Tensor) -> Tensor:
        h = x
        for k in (0, 1):
            h = F.leaky_relu(self.sft(h, f"{name}.norm_{k}", features), 0.2)
            h = self.conv(h, f"{name}.conv_{k}")
        return x + h

    def down(self, x: Tensor, name: str) -> Tensor:
        h = self.conv(F.leaky_relu(self.conv(x, f"{name}.conv1", 2), 0.01), f"{name}.conv2")
        skip = self.state[f"{name}.downsample.weight"], self.state[f"{name}.downsample.bias"]
        return F.leaky_relu(h, 0.1) + F.conv2d(x, *skip, stride=2)

    def bottlenecks(self, x: Tensor, name: str, first: int) -> Tensor:
        for k in range(first, first + 3):
            x = x + self.chain(x, f"{name}.{k}.branch", 3)
        return x

    def analysis(self, x: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """y and z."""
        f_8 = self.chain(guidance, "encoder.sft_1_8", 2)
        f_16 = self.chain(f_8, "encoder.sft_1_16", 2, stride=2)
        f_16b = self.chain(f_16, "encoder.sft_1_16_2", 2)
        for k in (0, 4, 8):
            x = self.bottlenecks(self.down(x, f"encoder.g_a1.{k}"), "encoder.g_a1", k + 1)
        x = self.sft(x, "encoder.g_a1_ref", f_8)
        x = self.bottlenecks(self.down(x, "encoder.g_a2.0"), "encoder.g_a2", 1)
        x = self.conv(self.sft(x, "encoder.g_a2_ref", f_16), "encoder.g_a3")
        x = self.sft_block(self.sft_block(x, "encoder.g_a4", f_16b), "encoder.g_a5", f_16b)
        y = self.conv(x, "encoder.g_a6")
        h = "hyper_enc"
        f = torch.cat([self.chain(guidance, f"{h}.sft_feature", 2, stride=2), y], 1)
        f = self.chain(f, f"{h}.sft_feature_h1", 3)
        z = F.gelu(self.sft(self.conv(y, f"{h}.h_a0"), f"{h}.h_a1", f))
        f = self.chain(f, f"{h}.sft_feature_h2", 2, stride=2)
        z = F.gelu(self.sft(self.conv(z, f"{h}.h_a3", 2), f"{h}.h_a4", f))
        f = self.chain(f, f"{h}.sft_feature_h3", 2, stride=2)
        z = self.conv(z, f"{h}.h_a6", 2)
        for block in ("h_a7", "h_a8"):
            z = self.sft_block(z, f"{h}.{block}", f)
        return y, self.conv(z, f"{h}.h_a9")

    def enlarged(self, z_hat: Tensor, name: str) -> Tensor:
        h = F.gelu(self.up(z_hat, f"{name}.0"))
        return self.up(F.gelu(self.up(h, f"{name}.2")), f"{name}.4", stride=1)

    def parameters(self, y: Tensor, z_hat: Tensor, groups: tuple[int, ...]) -> list[Tensor]:
        """y_hat, scales and means; anchors are where row + column is odd."""
        psi = self.enlarged(z_hat, "hyper_dec.hyper_dec")
        odd = (torch.arange(y.shape[2])[:, None] + torch.arange(y.shape[3])) % 2 == 1
        done: list[list[Tensor]] = []
        for i, part in enumerate(y.split(groups, 1)):
            known = [psi]
            if i:
                before = torch.cat([d[0] for d in done], 1)
                known = [self.chain(before, f"channel_context.{i}.fushion", 3), psi]
            first = self.chain(torch.cat(known, 1), f"entropy_parameters_anchor.{i}.fusion", 3)
            scales, means = first.chunk(2, 1)
            y_hat = torch.where(odd, torch.round(part - means) + means, torch.zeros(()))
            local = self.conv(y_hat, f"local_context.{i}")
            name = f"entropy_parameters_nonanchor.{i}.fusion"
            second = self.chain(torch.cat([local, *known], 1), name, 3).chunk(2, 1)
            scales, means = (
                torch.where(odd, a, b) for a, b in zip((scales, means), second, strict=True)
            )
            done.append([torch.round(part - means) + means, scales, means])
        return [torch.cat(parts, 1) for parts in zip(*done, strict=True)]

    def synthesis(self, y_hat: Tensor, z_hat: Tensor) -> Tensor:
        """z_c."""
        d = "decoder"
        f = torch.cat([self.enlarged(z_hat, "f_c"), y_hat], 1)
        f = self.chain(f, f"{d}.sft_feature_gs1", 3)
        h = y_hat
        for block in ("g_s0", "g_s1"):
            h = self.sft_block(h, f"{d}.{block}", f)
        f = self.chain(f, f"{d}.sft_feature_gs2", 2)
        h = self.bottlenecks(self.conv(h, f"{d}.g_s2.0"), f"{d}.g_s2", 1)
        h = self.sft(h, f"{d}.g_s2_ref", f)
        f = self.conv(F.gelu(self.up(f, f"{d}.sft_feature_gs3.0")), f"{d}.sft_feature_gs3.2")
        wide = F.pixel_shuffle(self.conv(h, f"{d}.g_s3.0.subpel_conv.0"), 2)
        inner = F.leaky_relu(self.conv(F.leaky_relu(wide, 0.01), f"{d}.g_s3.0.conv"), 0.1)
        h = inner + F.pixel_shuffle(self.conv(h, f"{d}.g_s3.0.upsample.0"), 2)
        h = self.sft(self.bottlenecks(h, f"{d}.g_s3", 1), f"{d}.g_s3_ref", f)
        return self.conv(h, f"{d}.g_s4")

    # -- the control module -------------------------------------------------------------------

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def residual(self, x: Tensor, name: str, embedding: Tensor) -> Tensor:
        h = self.conv(F.silu(self.norm(x, f"{name}.in_layers.0")), f"{name}.in_layers.2")
        h = h + self.linear(F.silu(embedding), f"{name}.emb_layers.1")[:, :, None, None]
        h = self.conv(F.silu(self.norm(h, f"{name}.out_layers.0")), f"{name}.out_layers.3")
        skip = f"{name}.skip_connection"
        return h + (self.conv(x, skip) if f"{skip}.weight" in self.state else x)

    def attention(self, x: Tensor, context: Tensor, name: str) -> Tensor:
        """Heads of 16 channels."""
        q, k, v = (
            self.linear(source, f"{name}.to_{leaf}").unflatten(-1, (-1, 16)).transpose(1, 2)
            for source, leaf in ((x, "q"), (context, "k"), (context, "v"))
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / 4, dim=-1)
        return self.linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.to_out.0")

    def transformer(self, x: Tensor, name: str, prompt: Tensor) -> Tensor:
        t, (height, width) = f"{name}.transformer_blocks.0", x.shape[-2:]
        h = self.norm(x, f"{name}.norm", 1e-6).flatten(2).transpose(1, 2)
        h = self.linear(h, f"{name}.proj_in")
        for k in (1, 2, 3):
            weight, bias = self.state[f"{t}.norm{k}.weight"], self.state[f"{t}.norm{k}.bias"]
            seen = F.layer_norm(h, (h.shape[-1],), weight, bias)
            if k < 3:
                h = h + self.attention(seen, seen if k == 1 else prompt, f"{t}.attn{k}")
            else:
                value, gate = self.linear(seen, f"{t}.ff.net.0.proj").chunk(2, -1)
                h = h + self.linear(value * F.gelu(gate), f"{t}.ff.net.2")
        h = self.linear(h, f"{name}.proj_out")
        return x + h.transpose(1, 2).unflatten(2, (height, width))

    def control(
        self, x_t: Tensor, t: Tensor, z_c: Tensor, prompt: Tensor, sizes: Sizes
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """What is added to encoder, middle and decoder of the UNet."""
        root, half = "control_model", sizes.unet[0] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = t[:, None].float() * frequencies
        embedding = torch.cat([torch.cos(angles), torch.sin(angles)], 1)
        embedding = self.linear(embedding, f"{root}.time_embed.0")
        embedding = self.linear(F.silu(embedding), f"{root}.time_embed.2")
        h = self.conv(torch.cat([x_t, z_c], 1), f"{root}.input_blocks.0.0")
        stream, block = [h], 1
        while any(name.startswith(f"{root}.input_blocks.{block}.") for name in self.state):
            name = f"{root}.input_blocks.{block}"
            if f"{name}.0.op.weight" in self.state:
                h = self.conv(h, f"{name}.0.op", stride=2)
            else:
                h = self.residual(h, f"{name}.0", embedding)
                if f"{name}.1.norm.weight" in self.state:
                    h = self.transformer(h, f"{name}.1", prompt)
            stream, block = [*stream, h], block + 1
        h = self.residual(h, f"{root}.middle_block.0", embedding)
        h = self.transformer(h, f"{root}.middle_block.1", prompt)
        h = self.residual(h, f"{root}.middle_block.2", embedding)
        scales = self.state["scale_list"].tolist()
        count = len(stream)
        encoder = [
            scales[k] * self.conv(s, f"enc_zero_convs_out.{k}.0") for k, s in enumerate(stream)
        ]
        decoder = [
            scales[count + 1 + k] * self.conv(s, f"dec_zero_convs_out.{k}.0")
            for k, s in enumerate(stream[::-1])
        ]
        return encoder, scales[count] * self.conv(h, "middle_block_out.0"), decoder
