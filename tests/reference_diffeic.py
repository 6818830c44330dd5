"""The released DiffEIC from its description: plain arithmetic, one layer after the other.

Nothing of ours is used here, so that a converted checkpoint can be compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from published_diffeic import Sizes
from torch import Tensor


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
