"""The entropy path in floating point, as CompressAI computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from compressai_gen.entropy.range_coder import Encoder, as_integers
from compressai_gen.entropy.tables import CdfTables
from compressai_gen.models.gain import interpolate
from compressai_gen.models.latents import EntropyNetworks


@torch.no_grad()
def float_parameters(
    networks: EntropyNetworks, y: Tensor, z: Tensor, quality: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """scales_hat, means_hat and y_hat, each shaped like y."""
    side = networks.h_s(dequantised(networks, z, quality))
    if networks.family == "hyperprior":
        return side, torch.zeros_like(side), y.round()
    if networks.family == "mean-scale":
        scales, means = side.chunk(2, 1)
        return scales, means, (y - means).round() + means

    if networks.family == "channel-groups":
        return grouped_parameters(networks, y, side)

    def predict(context: Tensor) -> tuple[Tensor, Tensor]:
        both = [context, side] if networks.context_first else [side, context]
        scales, means = networks.entropy_parameters(torch.cat(both, dim=1)).chunk(2, 1)
        return scales, means

    first = anchors(y, networks.anchor_parity)
    scales_a, means_a = predict(torch.zeros_like(networks.context_prediction(y)))
    y_anchors = ((y - means_a).round() + means_a) * first
    scales_b, means_b = predict(networks.context_prediction(y_anchors))
    scales = torch.where(first > 0, scales_a, scales_b)
    means = torch.where(first > 0, means_a, means_b)
    return scales, means, (y - means).round() + means


def grouped_parameters(
    networks: EntropyNetworks, y: Tensor, side: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As above, group by group."""
    first, done = anchors(y, networks.anchor_parity), [y[:, :0]]
    scales, means = [], []
    for group in networks.channel_groups:
        before = torch.cat(done, dim=1)
        own = y[:, before.size(1) : before.size(1) + group.local_context.in_channels]
        known = side
        if group.channel_context is not None:
            known = torch.cat([group.channel_context(before), side], dim=1)
        scales_a, means_a = group.anchors(known).chunk(2, 1)
        y_anchors = ((own - means_a).round() + means_a) * first
        context = group.local_context(y_anchors)
        scales_b, means_b = group.others(torch.cat([context, known], dim=1)).chunk(2, 1)
        scales.append(torch.where(first > 0, scales_a, scales_b))
        means.append(torch.where(first > 0, means_a, means_b))
        done.append((own - means[-1]).round() + means[-1])
    return torch.cat(scales, 1), torch.cat(means, 1), torch.cat(done, 1)


@torch.no_grad()
def float_bytes(
    networks: EntropyNetworks, y: Tensor, z: Tensor, quality: float | None = None
) -> int:
    """Length of one picture's stream with the float path's symbols and table indexes.

    Everything goes into one stream, as in fixed point: CompressAI's own strings are 4 to 8 bytes
    longer for that reason alone, more than the difference that is looked for.
    """
    scales, means, _ = float_parameters(networks, y, z, quality)
    bottleneck, gaussian = networks.entropy_bottleneck, networks.gaussian_conditional
    medians = bottleneck.quantiles[:, :, 1:2]
    channels = torch.arange(z.size(1))[:, None, None].expand(z.shape[1:])
    encoder = Encoder()
    z_tables, y_tables = map(CdfTables.from_entropy_model, (bottleneck, gaussian))
    encoder.push(as_integers((z - medians).round()), as_integers(channels), z_tables)
    indexes = gaussian.build_indexes(scales)
    encoder.push(as_integers((y - means).round()), as_integers(indexes), y_tables)
    return len(encoder.finish())


def dequantised(networks: EntropyNetworks, z: Tensor, quality: float | None = None) -> Tensor:
    """z_hat times its inverse gain: the input of h_s."""
    medians = networks.entropy_bottleneck.quantiles[:, :, 1:2].detach()
    z_hat = (z - medians).round() + medians
    if networks.z_log2_inverse_gain is None or quality is None:
        return z_hat
    return z_hat * interpolate(networks.z_log2_inverse_gain, torch.tensor([quality])).detach()


def anchors(y: Tensor, parity: str) -> Tensor:
    """1 where the anchors lie, else 0; shape (H, W)."""
    rows, columns = (torch.arange(n) for n in y.shape[2:])
    return ((rows[:, None] + columns) % 2 == (parity == "odd")).to(y.dtype)
