"""Overfitted codecs on the command line: ``cgen compress photo.png --codec nif``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from compressai_gen.bitstream import MAX_PIXELS, Header, codec_fingerprint, pack, unpack
from compressai_gen.codec.placement import parse_device
from compressai_gen.errors import CheckpointError, CorruptedFileError, OptionError
from compressai_gen.images import Picture, from_tensor, to_tensor
from compressai_gen_plugins.overfitted import nif_files
from compressai_gen_plugins.overfitted.nif_fitting import SCHEDULES
from compressai_gen_plugins.overfitted.nif_model import DEFAULT_PRESET, DEFAULT_QUALITY, NifModel

NO_SYNTHESIS = bytes(2)
"""A file holds all that makes its picture: there is nothing else to name."""

FIT_PIXELS = 2**23
"""Pictures of more are refused: the fit keeps 84 numbers for every pixel."""


class NifCodec:
    """NIF's files; one file alone decodes.

    Args:
        checkpoint: must be None.
        device: where pictures are fitted and drawn.
        dtype: must be None or float32.

    Raises:
        CheckpointError: if a checkpoint is given.
        OptionError: a device that cannot be used.
    """

    name = "nif"

    def __init__(
        self,
        *,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        if checkpoint is not None:
            raise CheckpointError("nif has no checkpoint: leave out --checkpoint")
        self.device = parse_device(device)

    def compress(
        self,
        image: Picture,
        *,
        quality: float | None = None,
        preset: str = DEFAULT_PRESET,
        loss: str = "lc-ssim",
        state: str | None = None,
    ) -> bytes:
        """Fit a network to the picture and write its weights.

        Args:
            image: as for `compressai_gen.Codec`.
            quality: 1 to 7, whole.
            preset: draft, fast, medium or slow.
            loss: name of a registered loss.
            state: a file to keep the state in; an interrupted fit goes on from it, a finished one
                removes it.

        Raises:
            OptionError: for an unknown quality, or a picture that is too large.
            UnknownNameError: for an unknown preset or loss.
            ImageError: a picture that cannot be coded.
        """
        quality = DEFAULT_QUALITY if quality is None else quality
        if quality != int(quality):
            raise OptionError(f"quality {quality:g}: nif has whole qualities, 1 to 7")
        x = to_tensor(image)[0].to(self.device)
        height, width = x.shape[1:]
        if height * width > FIT_PIXELS:
            need = 84 * 4 * height * width / 2**30
            raise OptionError(
                f"{width}x{height}: fitting would need {need:.0f} GiB for its inputs alone; cut "
                f"the picture into parts of at most {FIT_PIXELS} pixels"
            )
        model, kept = NifModel(int(quality), preset, loss), None if state is None else Path(state)
        total = SCHEDULES[preset].total
        with tqdm(total=total, desc="nif", unit="iteration", disable=None, leave=False) as bar:

            def told(done: int, value: float) -> None:
                bar.update(done - bar.n)
                bar.set_postfix_str(f"{loss} {value:.5f}")

            network = model.fitted(x, kept, told)
        chunks, crc = nif_files.write(network)
        header = Header(
            codec_fingerprint(self.name),
            NO_SYNTHESIS,
            height=height,
            width=width,
            symbols_crc=crc,
            quality=quality,
        )
        data = pack(header, chunks)
        if kept is not None:
            kept.unlink(missing_ok=True)
        return data

    @torch.no_grad()
    def decompress(
        self, data: bytes, *, output_type: str = "pil", max_pixels: int = MAX_PIXELS
    ) -> Any:
        """The picture in a file; arguments as for `compressai_gen.Codec`.

        Raises:
            BitstreamError: whatever is wrong with the file.
        """
        header, chunks = unpack(data, max_pixels)
        network, crc = nif_files.read(chunks)
        if crc != header.symbols_crc:
            raise CorruptedFileError("the checksum of the network's weights does not match")
        x_hat = network.to(self.device).picture(header.height, header.width)
        return from_tensor(x_hat, output_type)
