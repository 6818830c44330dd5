"""Overfitted codecs on the command line: ``cgen compress photo.png --codec cool-chic-v2``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from compressai_gen.bitstream import MAX_PIXELS, Header, codec_fingerprint, pack, unpack
from compressai_gen.codec.placement import parse_device, parse_dtype
from compressai_gen.errors import CheckpointError, CorruptedFileError
from compressai_gen.images import Picture, from_tensor, to_tensor
from compressai_gen_plugins.overfitted import (
    coolchic_files,
    coolchic_model,
    coolchic_schedules,
    nif_files,
    nif_model,
    nif_schedules,
)
from compressai_gen_plugins.overfitted.coolchic import CoolChic
from compressai_gen_plugins.overfitted.coolchic_model import (
    DEFAULT_QUALITY,
    MULTIPLIERS,
    CoolChicModel,
    CoolChicV1,
    CoolChicV2,
)
from compressai_gen_plugins.overfitted.nif import QUALITIES, Nif, sizes_at, weight_count
from compressai_gen_plugins.overfitted.nif_model import NifModel

NO_SYNTHESIS = bytes(2)
"""A file holds all that makes its picture: there is nothing else to name."""

Told = Callable[[int, str], None]
"""Iterations done, and where the fit stands."""


class OverfittedCodec:
    """Files that hold the network of their picture; one file alone decodes.

    Args:
        checkpoint: must be None.
        device: where pictures are fitted and drawn.
        dtype: one there is, for compatibility; everything runs in float32.

    Raises:
        CheckpointError: if a checkpoint is given.
        OptionError: a device that cannot be used, or an unknown dtype.
    """

    name: ClassVar[str]
    overfits: ClassVar[bool] = True
    """Compressing is training."""
    default_loss: ClassVar[str]
    model: ClassVar[Callable[..., Any]]
    """The zoo model, by quality, preset and loss."""
    network_chunks: ClassVar[int | None] = None
    """The first so many of a file hold the networks; None: all."""

    def __init__(
        self,
        *,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        if checkpoint is not None:
            raise CheckpointError(f"{self.name} has no checkpoint: leave out --checkpoint")
        self.device = parse_device(device)
        parse_dtype(dtype)

    def compress(
        self,
        image: Picture,
        *,
        quality: float | None = None,
        preset: str = "fast",
        loss: str | None = None,
        state: str | None = None,
        **arguments: Any,
    ) -> bytes:
        """Fit a network to the picture and write it.

        Args:
            image: as for `compressai_gen.Codec`.
            quality: from 1; see the zoo model.
            preset: draft, fast, medium or slow.
            loss: name of a registered loss.
            state: a folder to keep states in: an interrupted fit goes on from its own, a finished
                one is read from it. They stay until somebody removes them.
            **arguments: further ones of the codec's zoo model: COOL-CHIC's ``same_lambda``.

        Raises:
            OptionError: for an unknown quality, or a picture that is too large, with the memory.
            UnknownNameError: for an unknown preset or loss.
            ImageError: a picture that cannot be coded.
        """
        return self.encoder(image, preset=preset, loss=loss, state=state, **arguments)(quality)

    def encoder(
        self,
        image: Picture,
        *,
        preset: str = "fast",
        loss: str | None = None,
        state: str | None = None,
        **arguments: Any,
    ) -> Callable[[float | None], bytes]:
        """`compress` for several qualities of one picture: ``encoder(image)(quality)``.

        A fit of COOL-CHIC starts with the networks of the nearest one at a higher quality, if there
        is one, instead of a warm-up.

        Arguments and errors are those of `compress`.
        """
        x = to_tensor(image)[0].to(self.device)
        chosen, folder = loss or self.default_loss, None if state is None else Path(state)
        before: dict[float, Any] = {}

        def compress_at(quality: float | None = None) -> bytes:
            quality = DEFAULT_QUALITY if quality is None else quality
            model = self.model(quality, preset, chosen, **arguments)
            total, unit = self.iterations(model, before), "iteration"
            with tqdm(total=total, desc=self.name, unit=unit, disable=None, leave=False) as bar:

                def told(done: int, standing: str) -> None:
                    bar.update(done - bar.n)
                    bar.set_postfix_str(standing)

                chunks, crc, before[quality] = self.fit(model, x, folder, told, before)
            header = Header(
                codec_fingerprint(self.name),
                NO_SYNTHESIS,
                height=x.shape[1],
                width=x.shape[2],
                symbols_crc=crc,
                quality=quality,
            )
            return pack(header, chunks)

        return compress_at

    @torch.no_grad()
    def decompress(
        self, data: bytes, *, output_type: str = "pil", max_pixels: int = MAX_PIXELS
    ) -> Any:
        """The picture in a file; arguments as for `compressai_gen.Codec`.

        Raises:
            BitstreamError: whatever is wrong with the file.
        """
        header, chunks = unpack(data, max_pixels)
        x_hat, crc = self.draw(chunks, header.height, header.width)
        if crc != header.symbols_crc:
            raise CorruptedFileError("the checksum of the file's integers does not match")
        return from_tensor(x_hat, output_type)

    def figures(self, image: Picture, data: bytes) -> dict[str, float]:
        """What only the codec can tell of a file.

        Args:
            image: not looked at.
            data: the file.

        Returns:
            ``network-bpp``: bits for the weights of networks, per pixel.
        """
        header, chunks = unpack(data)
        size = sum(map(len, chunks[: self.network_chunks]))
        return {"network-bpp": 8 * size / (header.height * header.width)}

    def iterations(self, model: Any, before: Mapping[float, Any]) -> int:
        """Of a fit, at most; arguments as for :meth:`fit`."""
        raise NotImplementedError

    def fit(
        self, model: Any, x: Tensor, state: Path | None, told: Told, before: Mapping[float, Any]
    ) -> tuple[list[bytes], int, Any]:
        """Chunks of a file, the CRC32 of its integers, and the network.

        Args:
            model: of the zoo.
            x: shape (3, H, W) in [0, 1].
            state: the folder of states.
            told: called with the iterations done and where the fit stands.
            before: networks of the same picture by quality.
        """
        raise NotImplementedError

    def draw(self, chunks: list[bytes], height: int, width: int) -> tuple[Tensor, int]:
        """The picture (1, 3, height, width) of chunks, and the CRC32 of their integers.

        Raises:
            BitstreamError: whatever is wrong with them.
        """
        raise NotImplementedError


class NifCodec(OverfittedCodec):
    """NIF's files; arguments as for :class:`OverfittedCodec`."""

    name = "nif"
    model = NifModel
    default_loss = "lc-ssim"
    quality_range = (1.0, float(len(QUALITIES)))
    """Lowest and highest quality, any real number between them."""

    def qualities_near(self, bpp: float, pixels: int) -> tuple[float, float]:
        """The part of `quality_range` that files of so many bits per pixel come from.

        A weight takes 4 to 9 bits: smaller networks leave room, larger ones need not be fitted.
        """
        low, high = self.quality_range
        counts = {low + n / 8: weight_count(sizes_at(low + n / 8)) for n in range(49)}
        fitting = [quality for quality, count in counts.items() if 9 * count <= bpp * pixels]
        beyond = [quality for quality, count in counts.items() if 4 * count > bpp * pixels]
        return max(fitting, default=low), min(beyond, default=high)

    def iterations(self, model: NifModel, before: Mapping[float, Nif]) -> int:
        return nif_schedules.SCHEDULES[model.preset].total

    def fit(
        self,
        model: NifModel,
        x: Tensor,
        state: Path | None,
        told: Told,
        before: Mapping[float, Nif],
    ) -> tuple[list[bytes], int, Nif]:
        same = [network for network in before.values() if network.sizes == model.sizes]
        network = same[0] if same else model.fitted(x[None], state, told)[0].cpu()
        return (*nif_files.write(network), network)

    def draw(self, chunks: list[bytes], height: int, width: int) -> tuple[Tensor, int]:
        return nif_model.draw(chunks, height, width, self.device)


class CoolChicCodec(OverfittedCodec):
    """COOL-CHIC's files; arguments as for :class:`OverfittedCodec`."""

    model: ClassVar[type[CoolChicModel]]
    goes_down: ClassVar[bool] = True
    """A fit starts from one at a higher quality; see `encoder`."""
    default_loss = "mse"
    network_chunks = 2

    @property
    def quality_range(self) -> tuple[float, float]:
        """Lowest and highest quality, any real number between them."""
        return 1.0, float(len(MULTIPLIERS[self.name]))

    def iterations(self, model: CoolChicModel, before: Mapping[float, CoolChic]) -> int:
        schedule = coolchic_schedules.SCHEDULES[model.preset]
        return (schedule.continued() if start_of(model, before) else schedule).total

    def fit(
        self,
        model: CoolChicModel,
        x: Tensor,
        state: Path | None,
        told: Told,
        before: Mapping[float, CoolChic],
    ) -> tuple[list[bytes], int, CoolChic]:
        ((network, steps),) = model.fitted(x[None], start_of(model, before), state, told)
        return (*coolchic_files.write(network, steps), network)

    def draw(self, chunks: list[bytes], height: int, width: int) -> tuple[Tensor, int]:
        return coolchic_model.draw(chunks, self.model.version, height, width, self.device)

    @torch.no_grad()
    def portrait(self, data: bytes, max_pixels: int = MAX_PIXELS) -> bytes:
        """A PNG of the grids and where the bits go, for ``cgen info --picture``.

        Raises:
            BitstreamError: whatever is wrong with the file.
        """
        from compressai_gen_plugins.overfitted.portrait import portrait

        drawn = self.decompress(data, output_type="np", max_pixels=max_pixels)
        header, chunks = unpack(data, max_pixels)
        size = header.height, header.width
        network, latents, _ = coolchic_files.read(chunks, self.model.version, *size)
        return portrait(drawn, network, latents, chunks)


class CoolChicV1Codec(CoolChicCodec):
    """COOL-CHIC v1."""

    name = "cool-chic-v1"
    model = CoolChicV1


class CoolChicV2Codec(CoolChicCodec):
    """COOL-CHIC v2."""

    name = "cool-chic-v2"
    model = CoolChicV2


def start_of(model: CoolChicModel, before: Mapping[float, CoolChic]) -> CoolChic | None:
    """The nearest network at a higher quality, if there is one."""
    above = [quality for quality in before if quality >= model.quality]
    return before[min(above)] if above else None
