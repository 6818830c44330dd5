"""What a config of the latent fusion network may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressai_gen.errors import OptionError
from diffusers_codec.noise import integer

SIZES = ("latent_channels", "width", "units")
FLAGS = ("time_embedding", "residual")
NAMES = ("base_fingerprint", "base_synthesis", "base_architecture")


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse arguments of the wrong kind, as a config.json from anywhere may hold.

    Raises:
        OptionError: names the first that is out of range or of another kind.
    """
    for name in SIZES:
        if integer(config[name]) < 1:
            raise OptionError(f"{name}={config[name]!r}: give an integer of at least 1")
    points = config["rate_points"]
    if points is not None and integer(points) < 2:
        raise OptionError(
            f"rate_points={points!r}: give an integer of at least 2, or None for a single rate"
        )
    for name in FLAGS:
        if not isinstance(config[name], bool):
            raise OptionError(f"{name}={config[name]!r}: give True or False")
    for name in NAMES:
        if not isinstance(config[name], str | None):
            raise OptionError(f"{name}={config[name]!r}: give a string, or None for any base")
