"""Model to fixed point, once: what both sides load is this export, not the float weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from compressai_gen.entropy.arithmetic import to_fixed
from compressai_gen.entropy.channel_groups import ChannelGroupsPrior, FixedChannelGroup
from compressai_gen.entropy.checkerboard import FixedContext
from compressai_gen.entropy.gains import FixedGains
from compressai_gen.entropy.network import FixedNetwork
from compressai_gen.entropy.portable import PortableEntropy
from compressai_gen.entropy.priors import CheckerboardPrior, Prior
from compressai_gen.entropy.tables import CdfTables, scale_thresholds
from compressai_gen.errors import NotPortableError

if TYPE_CHECKING:
    from compressai.models import CompressionModel

    from compressai_gen.models.channel_groups import ChannelGroup
    from compressai_gen.models.entropy_networks import EntropyNetworks


def export(model: CompressionModel) -> PortableEntropy:
    """The entropy path of ``model`` in fixed point.

    The integer tables are copied if the model has them (call ``model.update(force=True)`` after
    training) and built by ``model.update()`` if not.

    Args:
        model: stock or ours; see :func:`compressai_gen.models.latents.entropy_networks`.

    Returns:
        to be attached: ``model.add_module("portable", export(model))``.

    Raises:
        NotPortableError: if its context is serial or a layer has no fixed-point form.
        CodecError: if the weights do not fit 16 bits or a sum could leave the exact range.
    """
    from compressai_gen.models.latents import entropy_networks

    networks = entropy_networks(model)
    tables_missing = networks.gaussian_conditional.offset.numel() == 0
    if tables_missing or networks.entropy_bottleneck.offset.numel() == 0:
        model.update()
    return export_networks(networks)


@torch.no_grad()
def export_networks(networks: EntropyNetworks) -> PortableEntropy:
    """As :func:`export`, for networks whose entropy models have their tables."""
    bottleneck, gaussian = networks.entropy_bottleneck, networks.gaussian_conditional
    log2_gain = networks.z_log2_inverse_gain
    portable = PortableEntropy(
        FixedNetwork.from_float(networks.h_s),
        _prior(networks),
        None if log2_gain is None else FixedGains.from_float(log2_gain),
        CdfTables.from_entropy_model(bottleneck),
        CdfTables.from_entropy_model(gaussian),
    )
    portable.medians.copy_(to_fixed(bottleneck.quantiles[:, 0, 1]))
    portable.thresholds.copy_(scale_thresholds(gaussian))
    return portable.eval()


def _prior(networks: EntropyNetworks) -> Prior:
    if networks.family == "channel-groups":
        groups = (_group(group) for group in networks.channel_groups)
        return ChannelGroupsPrior(groups, networks.anchor_parity)
    if networks.family != "checkerboard":
        return Prior(networks.family)
    if networks.context_prediction is None or networks.entropy_parameters is None:
        raise NotPortableError("a checkerboard model needs context_prediction, entropy_parameters")
    return CheckerboardPrior(
        FixedContext.from_float(networks.context_prediction),
        FixedNetwork.from_float(networks.entropy_parameters),
        networks.anchor_parity,
        networks.context_first,
    )


def _group(group: ChannelGroup) -> FixedChannelGroup:
    channel = group.channel_context
    return FixedChannelGroup(
        FixedContext.from_float(group.local_context),
        None if channel is None else FixedNetwork.from_float(channel),
        FixedNetwork.from_float(group.anchors),
        FixedNetwork.from_float(group.others),
    )
