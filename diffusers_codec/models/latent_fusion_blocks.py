"""Building blocks of the latent fusion network: time-aware residual blocks and attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai_gen.errors import OptionError

ATTENTIONS = ("linear", "full", "none")


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position, shape (B, C, H, W) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-5) * self.weight + self.bias


class TimeResidualBlock(nn.Module):
    """Two 3x3 convolutions with the embedding added between them.

    .. code-block:: none

        x ─┬─► conv ─► norm ─► SiLU ─► + linear(embedding) ─► conv ─► norm ─► SiLU ─► + ─►
           └────────────────────────────── 1x1 ──────────────────────────────────────┘

    Args:
        inputs: channels of x.
        width: channels of the result.
        embedding: size of the embedding, 0 for a block without one.
    """

    def __init__(self, inputs: int, width: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.norm1 = ChannelNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = ChannelNorm(width)
        self.shift = nn.Linear(embedding, width) if embedding else None
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x)))
        if self.shift is not None:
            h = h + self.shift(embedding)[:, :, None, None]
        return F.silu(self.norm2(self.conv2(h))) + self.skip(x)


class SpatialAttention(nn.Module):
    """Self-attention over all positions, added to its input, shape (B, W, h, w).

    "linear" softmaxes the keys over the positions and sums the values into one matrix a head, so
    time and memory are linear in the positions; "full" is scaled dot-product attention.

    Args:
        width: channels; 4 heads where it divides by 4.
        kind: "linear" or "full".
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind, self.heads = kind, math.gcd(width, 4)
        self.norm = ChannelNorm(width)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.to_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, columns = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(batch, 3, self.heads, width // self.heads, -1)
        query, key, value = qkv.unbind(1)  # each (B, heads, width / heads, positions)
        attend = linear_attention if self.kind == "linear" else full_attention
        return x + self.to_out(attend(query, key, value).reshape(batch, width, height, columns))


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``V softmax(K)^T Q / sqrt(d)``, each of shape (B, heads, d, positions).

    The softmax over the positions is in float32: a share of 1/30000 is subnormal in float16.
    """
    shares = key.float().softmax(-1)
    context = value.float() @ shares.mT
    return context.to(query.dtype) @ (query * query.shape[-2] ** -0.5)


def full_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, each of shape (B, heads, d, positions)."""
    return F.scaled_dot_product_attention(query.mT, key.mT, value.mT).mT


class FusionUnit(nn.Module):
    """One of the paper's M units (Fig. 4): two time-aware residual blocks and an attention block.

    Args:
        inputs: channels in.
        width: channels out.
        embedding: size of the embedding, 0 for none.
        attention: "linear", "full" or "none".

    Raises:
        OptionError: for another kind of attention.
    """

    def __init__(self, inputs: int, width: int, embedding: int, attention: str) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise OptionError(f"attention {attention!r}: give one of {', '.join(ATTENTIONS)}")
        self.block1 = TimeResidualBlock(inputs, width, embedding)
        self.block2 = TimeResidualBlock(width, width, embedding)
        self.attention = (
            nn.Identity() if attention == "none" else SpatialAttention(width, attention)
        )

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        return self.attention(self.block2(self.block1(x, embedding), embedding))
