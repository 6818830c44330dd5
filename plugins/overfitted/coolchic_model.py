"""COOL-CHIC v1 and v2 in the zoo: CompressAI models whose ``compress`` trains a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.errors import OptionError, UnknownNameError
from compressai_gen_plugins.overfitted import coolchic_files
from compressai_gen_plugins.overfitted.chunks import joined, parted
from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.coolchic_fitting import Fitted, fit
from compressai_gen_plugins.overfitted.coolchic_schedules import SCHEDULES
from compressai_gen_plugins.overfitted.coolchic_versions import GRIDS, V1, V2, Version
from compressai_gen_plugins.overfitted.fits import Progress, check_drawn, check_loss, check_metric

MULTIPLIERS = {
    V1.name: {1: 2e-2, 2: 4e-3, 3: 5e-4, 4: 1e-4},
    V2.name: {1: 2e-2, 2: 4e-3, 3: 1e-3, 4: 4e-4, 5: 1e-4},
}
"""Lambda by quality, as published; quality 1 is the lowest rate."""

DEFAULT_QUALITY = 2
DEFAULT_PRESET = "fast"


class CoolChicModel(CompressionModel):
    """COOL-CHIC, a codec without trained weights: a file holds latents and the network for them.

    .. code-block:: none

        x ─► fit grids and networks ─► integers ─► range coder ─► string
        string ─► weights ─► grids, one latent after the other ─► up ─► synthesis ─► x_hat

    Args:
        quality: 1 (lowest rate) to 4 for v1, to 5 for v2: the published lambdas; between them
            lambda is interpolated geometrically.
        preset: how long a picture is fitted: draft, fast, medium or slow.
        loss: name of a registered loss.
        same_lambda: leave lambda alone, whatever the loss, as the loss paper does; otherwise it is
            adapted, so that a quality means about the same rate.

    Raises:
        OptionError: for an unknown quality.
        UnknownNameError: for an unknown preset or loss.
    """

    version: Version

    def __init__(
        self,
        quality: float = DEFAULT_QUALITY,
        preset: str = DEFAULT_PRESET,
        loss: str = "mse",
        same_lambda: bool = False,
    ) -> None:
        super().__init__()
        self.multiplier = multiplier_at(self.version, quality)
        if preset not in SCHEDULES:
            raise UnknownNameError("preset", preset, SCHEDULES)
        check_loss(loss)
        self.quality, self.preset, self.loss = quality, preset, loss
        self.same_lambda = same_lambda
        self.network = CoolChic(self.version, 64, 64)
        """Fresh: what every fit starts from, but for its seed and its size."""

    def fitted(
        self,
        x: Tensor,
        start: CoolChic | None = None,
        state: Path | None = None,
        progress: Progress | None = None,
    ) -> list[Fitted]:
        """The networks of pictures (B, 3, H, W) in [0, 1]; see `fit`."""
        return fit(
            x,
            self.version,
            self.multiplier,
            SCHEDULES[self.preset],
            loss=self.loss,
            same_lambda=self.same_lambda,
            start=start,
            state=state,
            progress=progress,
        )

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Pictures (B, 3, H, W) in [0, 1], any size, to ``strings`` (one a picture) and ``shape``.

        It trains, so it works under ``torch.no_grad`` too, and takes its time; on a GPU the
        pictures of a batch are fitted at once.

        Raises:
            ImageError: not such pictures, or too small for the loss to judge.
            OptionError: a picture that is too large.
            MissingWeightsError: the weights of the loss are not on this machine.
        """
        strings = [joined(coolchic_files.write(*fitted)[0]) for fitted in self.fitted(x)]
        return {"strings": [strings], "shape": tuple(x.shape[-2:])}

    @torch.no_grad()
    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """Strings of :meth:`compress` to ``x_hat``, shape (B, 3, H, W) in [0, 1].

        On the model's device and of its type, though drawn in float32.

        Raises:
            BitstreamError: if a string cannot have come from :meth:`compress`.
        """
        like = next(self.parameters())
        files = [parted(string, 2 + GRIDS) for string in strings[0]]
        pictures = [draw(chunks, self.version, *shape, like.device)[0] for chunks in files]
        return {"x_hat": torch.cat(pictures).clamp(0, 1).to(like)}

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Raises OptionError: there is no estimate of a rate, only files."""
        raise OptionError(f"{self.version.name} has no estimated rate of a picture: use compress")

    def update(self, scale_table: Any = None, force: bool = False, **_: Any) -> bool:
        """There are no tables to build."""
        return False

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> CoolChicModel:
        """Raises OptionError: no weights are shared between pictures."""
        raise OptionError(f"{cls.version.name} has no checkpoint: every file holds its network")


class CoolChicV1(CoolChicModel):
    """COOL-CHIC v1; arguments as for :class:`CoolChicModel`."""

    version = V1


class CoolChicV2(CoolChicModel):
    """COOL-CHIC v2; arguments as for :class:`CoolChicModel`."""

    version = V2


def draw(
    chunks: list[bytes], version: Version, height: int, width: int, device: torch.device
) -> tuple[Tensor, int]:
    """The picture (1, 3, height, width) of a file's chunks, not clamped, and their integers' CRC32.

    Raises:
        BitstreamError: whatever is wrong with them.
    """
    check_drawn(height, width)
    network, latents, crc = coolchic_files.read(chunks, version, height, width)
    return network.to(device).picture([grid.to(device) for grid in latents]), crc


def multiplier_at(version: Version, quality: float) -> float:
    """Lambda of a quality.

    Raises:
        OptionError: out of range.
    """
    published = [math.log(value) for value in MULTIPLIERS[version.name].values()]
    if not 1 <= quality <= len(published):
        raise OptionError(
            f"{version.name} has no quality {quality:g}: give 1 (small) to {len(published)}"
        )
    lower = min(int(quality), len(published) - 1)
    share = quality - lower
    return math.exp((1 - share) * published[lower - 1] + share * published[lower])


def factory(
    kind: type[CoolChicModel],
    quality: float = DEFAULT_QUALITY,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> CoolChicModel:
    """Zoo factory.

    Args:
        kind: class of the version.
        quality: 1 to 4 or 5.
        metric: "mse", for compatibility; the loss is an argument of its own.
        pretrained: accepted: there is nothing to fetch.
        progress: accepted for compatibility.
        **kwargs: ``preset``, ``loss`` and ``same_lambda`` of `CoolChicModel`.

    Raises:
        OptionError: for an unknown quality, or another metric.
        UnknownNameError: for an unknown preset or loss.
    """
    check_metric(metric)
    return kind(quality, **kwargs)


cool_chic_v1 = partial(factory, CoolChicV1)
cool_chic_v2 = partial(factory, CoolChicV2)
