"""Which prior a stored config describes."""

from __future__ import annotations

from typing import Any

from compressai_gen.entropy.channel_groups import ChannelGroupsPrior
from compressai_gen.entropy.priors import CheckerboardPrior, Prior
from compressai_gen.errors import CheckpointError

FAMILIES: dict[str, type[Prior]] = {
    "hyperprior": Prior,
    "mean-scale": Prior,
    "checkerboard": CheckerboardPrior,
    "channel-groups": ChannelGroupsPrior,
}


def prior_from_config(config: Any) -> Prior:
    """An empty prior of the right shapes.

    Raises:
        CheckpointError: if ``config`` did not come from :meth:`Prior.config`.
    """
    family = config.get("family") if isinstance(config, dict) else None
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(
            f"fixed-point config: unknown family {family!r}, known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[family].from_config(config)
