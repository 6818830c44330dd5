"""NIF in the zoo: a CompressAI model whose ``compress`` trains a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.errors import OptionError, UnknownNameError
from compressai_gen_plugins.overfitted import nif_files
from compressai_gen_plugins.overfitted.chunks import joined, parted
from compressai_gen_plugins.overfitted.fits import Progress, check_drawn, check_loss, check_metric
from compressai_gen_plugins.overfitted.nif import Nif, sizes_at
from compressai_gen_plugins.overfitted.nif_fitting import fit
from compressai_gen_plugins.overfitted.nif_schedules import SCHEDULES

DEFAULT_QUALITY = 2
DEFAULT_PRESET = "fast"


class NifModel(CompressionModel):
    """NIF, a codec without trained weights: they are what a file consists of.

    .. code-block:: none

        x ─► fit a network ─► its weights, 8 bits each ─► range coder ─► string
        string ─► weights ─► network at every pixel ─► x_hat

    Args:
        quality: 1 to 7, the published sizes of the network, or between; the rate follows from it.
        preset: how long a picture is fitted: draft, fast, medium or slow (as published).
        loss: name of a registered loss.

    Raises:
        OptionError: for an unknown quality.
        UnknownNameError: for an unknown preset or loss.
    """

    def __init__(
        self, quality: float = DEFAULT_QUALITY, preset: str = DEFAULT_PRESET, loss: str = "lc-ssim"
    ) -> None:
        super().__init__()
        self.sizes = sizes_at(quality)
        if preset not in SCHEDULES:
            raise UnknownNameError("preset", preset, SCHEDULES)
        check_loss(loss)
        self.quality, self.preset, self.loss = quality, preset, loss
        self.network = Nif(self.sizes)
        """Fresh: what every fit starts from, but for its seed."""

    def fitted(
        self, x: Tensor, state: Path | None = None, progress: Progress | None = None
    ) -> list[Nif]:
        """The networks of pictures (B, 3, H, W) in [0, 1]; see `fit`."""
        schedule = SCHEDULES[self.preset]
        return fit(x, self.sizes, schedule, loss=self.loss, state=state, progress=progress)

    def compress(self, x: Tensor) -> dict[str, Any]:
        """Pictures (B, 3, H, W) in [0, 1], any size, to ``strings`` (one a picture) and ``shape``.

        It trains, so it works under ``torch.no_grad`` too, and takes its time; on a GPU the
        pictures of a batch are fitted at once.

        Raises:
            ImageError: not such pictures, or too small for the loss to judge.
            OptionError: a picture that is too large.
            MissingWeightsError: the weights of the loss are not on this machine.
        """
        strings = [joined(nif_files.write(network)[0]) for network in self.fitted(x)]
        return {"strings": [strings], "shape": tuple(x.shape[-2:])}

    @torch.no_grad()
    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """Strings of :meth:`compress` to ``x_hat``, shape (B, 3, H, W) in [0, 1].

        On the model's device and of its type, though drawn in float32.

        Raises:
            BitstreamError: if a string cannot have come from :meth:`compress`.
        """
        like = next(self.parameters())
        files = [parted(string, 2) for string in strings[0]]
        pictures = [draw(chunks, *shape, like.device)[0] for chunks in files]
        return {"x_hat": torch.cat(pictures).to(like)}

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Raises OptionError: there is no estimate of a rate, only files."""
        raise OptionError("nif has no estimated rate: its strings are its weights, use compress")

    def update(self, scale_table: Any = None, force: bool = False, **_: Any) -> bool:
        """There are no tables to build."""
        return False

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> NifModel:
        """Raises OptionError: no weights are shared between pictures."""
        raise OptionError("nif has no checkpoint: every file holds the weights of its own network")


def draw(chunks: list[bytes], height: int, width: int, device: torch.device) -> tuple[Tensor, int]:
    """The picture (1, 3, height, width) of a file's chunks, and their integers' CRC32.

    Raises:
        BitstreamError: whatever is wrong with them.
    """
    check_drawn(height, width)
    network, crc = nif_files.read(chunks)
    return network.to(device).picture(height, width), crc


def nif(
    quality: float = DEFAULT_QUALITY,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> NifModel:
    """Zoo factory.

    Args:
        quality: 1 to 7.
        metric: "mse", for compatibility; the loss is an argument of its own.
        pretrained: accepted: there is nothing to fetch.
        progress: accepted for compatibility.
        **kwargs: ``preset`` and ``loss`` of `NifModel`.

    Raises:
        OptionError: for an unknown quality, or another metric.
        UnknownNameError: for an unknown preset or loss.
    """
    check_metric(metric)
    return NifModel(quality, **kwargs)
