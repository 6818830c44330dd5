"""Random networks made to behave like trained ones, where no trained checkpoint is at hand.

Activations have unit variance, scales spread over 0.08 to 20 as in a trained entropy path, so that
all of the tables are used and a rounding difference has a chance to flip an index.
"""

from __future__ import annotations

import math

import torch
from compressai.models import CompressionModel
from float_entropy import anchors, dequantised, float_parameters
from torch import Tensor, nn

from compressai_gen.models.latents import EntropyNetworks, entropy_networks


@torch.no_grad()
def calibrate(model: CompressionModel, seed: int = 0) -> CompressionModel:
    """Calibrate the entropy path of a model in place; its tables are rebuilt."""
    torch.manual_seed(seed)
    networks = entropy_networks(model)
    z, y = random_latents(networks, height=4, width=6)
    side = _whiten(networks.h_s, dequantised(networks, z))
    if networks.family == "channel-groups":
        _calibrate_groups(networks, side, y)
    elif networks.family != "checkerboard":
        _spread(networks.h_s, networks.family)
    else:
        context = _whiten(
            networks.context_prediction, y.round() * anchors(y, networks.anchor_parity)
        )
        both = [context, side] if networks.context_first else [side, context]
        _whiten(networks.entropy_parameters, torch.cat(both, dim=1))
        _spread(networks.entropy_parameters, "mean-scale")
    model.update(force=True)
    return model.eval()


def _calibrate_groups(networks: EntropyNetworks, side: Tensor, y: Tensor) -> None:
    first, start = anchors(y, networks.anchor_parity), 0
    for group in networks.channel_groups:
        own = y[:, start : start + group.local_context.in_channels].round()
        known = side
        if group.channel_context is not None:
            known = torch.cat([_whiten(group.channel_context, y[:, :start].round()), side], 1)
        context = _whiten(group.local_context, own * first)
        for network, inputs in ((group.anchors, [known]), (group.others, [context, known])):
            _whiten(network, torch.cat(inputs, dim=1))
            _spread(network, "mean-scale")
        start += own.size(1)


def random_latents(
    networks: EntropyNetworks, height: int, width: int, seed: int = 1
) -> tuple[Tensor, Tensor]:
    """z (1, N, height, width) and y (1, M, 4 height, 4 width) of plausible magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    channels = networks.entropy_bottleneck.channels
    z = torch.randn(1, channels, height, width, generator=generator)
    z *= torch.linspace(0.2, 3, channels).view(1, -1, 1, 1)
    y = torch.randn(1, _y_channels(networks), 4 * height, 4 * width, generator=generator)
    return z, y * torch.linspace(0.1, 6, y.size(1)).view(1, -1, 1, 1)


def drawn_latents(
    networks: EntropyNetworks,
    height: int,
    width: int,
    quality: float | None = None,
    seed: int = 1,
) -> tuple[Tensor, Tensor]:
    """z, and y drawn from the model's own distribution, a quarter away from every tie."""
    z, y = random_latents(networks, height, width, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(y.shape, generator=generator)
    offset = torch.rand(y.shape, generator=generator) / 2 - 0.25
    for _ in range(2 * max(1, len(networks.channel_groups))):  # means depend on earlier passes
        scales, means, _ = float_parameters(networks, y, z, quality)
        y = means + (scales.clamp(min=0.11) * noise).round() + offset
    return z, y


def _y_channels(networks: EntropyNetworks) -> int:
    if networks.context_prediction is not None:
        return networks.context_prediction.in_channels
    if networks.channel_groups:
        return sum(group.local_context.in_channels for group in networks.channel_groups)
    out = _convolutions(networks.h_s)[-1].out_channels
    return out if networks.family == "hyperprior" else out // 2


def _convolutions(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]


def _whiten(module: nn.Module, x: Tensor) -> Tensor:
    """Scale every convolution to outputs of unit deviation, given the network's input."""
    for layer in module if isinstance(module, nn.Sequential) else [module]:
        if isinstance(layer, nn.Sequential):
            x = _whiten(layer, x)
            continue
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            layer.weight /= layer(x).std()
            layer.bias.copy_(torch.randn_like(layer.bias) * 0.3)
        x = layer(x.clone())
    return x


def _spread(module: nn.Module, family: str) -> None:
    """Scales log-uniform in 0.08 ... 20 over the channels of the last layer, means around 0."""
    last = _convolutions(module)[-1]
    scales = last.out_channels if family == "hyperprior" else last.out_channels // 2
    centre = torch.exp(torch.empty(scales).uniform_(math.log(0.08), math.log(20)))
    rest = last.out_channels - scales
    factor = torch.cat([0.3 * centre, torch.ones(rest)])
    last.weight *= factor.view(-1, 1, 1, 1)
    last.bias.copy_(torch.cat([centre, 0.2 * torch.randn(rest)]))
