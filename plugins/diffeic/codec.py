"""DiffEIC on the command line: ``cgen compress photo.png --codec diffeic``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from compressai_gen.bitstream import MAX_PIXELS
from compressai_gen.checkpoints import known
from compressai_gen.codec.geometry import pad
from compressai_gen.codec.placement import parse_device, parse_dtype
from compressai_gen.errors import CheckpointError, OptionError, UnknownNameError
from compressai_gen.images import Picture, to_tensor
from compressai_gen_plugins.diffeic.plugin import ARCHITECTURE, SCHEDULERS
from diffusers_codec.models.autoencoders import decode, encode
from diffusers_codec.pipelines.diffeic import DiffEICPipeline

INDEX = "model_index.json"


class DiffEICCodec:
    """`DiffEICPipeline` with the verbs of a file codec.

    Args:
        checkpoint: folder or Hub repo id of a pipeline, or the folder of its codec; by default the
            first one known on this machine.
        device: of all networks.
        dtype: of VAE, UNet and control module; the codec stays float32.

    Raises:
        CheckpointError: if there is no such pipeline.
        OptionError: a device or dtype that cannot be used.
    """

    name = "diffeic"

    def __init__(
        self,
        *,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
    ) -> None:
        source = pipeline_of(first_known() if checkpoint is None else checkpoint)
        precision = parse_dtype(dtype)
        options = {} if precision == torch.float32 else {"torch_dtype": precision}
        try:
            with quiet():
                pipeline: Any = DiffEICPipeline.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"no DiffEIC pipeline in {source}: {reason}") from None
        self.pipeline = pipeline.to(parse_device(device))
        self.pipeline.check_components()

    def compress(
        self, image: Picture, *, quality: float | None = None, steps: int | None = None
    ) -> bytes:
        """A picture as the bytes of a ``.cgen`` file.

        Args:
            image: as for `compressai_gen.Codec`.
            quality: None: a checkpoint has one rate.
            steps: the sender's wish, kept in the header.

        Raises:
            OptionError: with a quality.
            ImageError: a picture that cannot be coded.
        """
        if quality is not None:
            raise OptionError(
                f"quality {quality:g}: a DiffEIC checkpoint has one fixed rate; choose another "
                "checkpoint for another rate"
            )
        return self.pipeline.compress(image, num_inference_steps=steps)

    def decompress(
        self,
        data: bytes,
        *,
        output_type: str = "pil",
        max_pixels: int = MAX_PIXELS,
        steps: int | None = None,
        start: float | None = None,
        scheduler: str | None = None,
        tile: int | None = None,
    ) -> Any:
        """The picture in a ``.cgen`` file, with a bar of the steps at a terminal.

        Args:
            data, output_type, max_pixels: as for `compressai_gen.Codec`.
            steps: passes of the UNet; 0 for none; None for the sender's wish, or else 50.
            start: below 1 from the noised content variable; None for the checkpoint's own.
            scheduler: name of a stock one, instead of the pipeline's own.
            tile: side of overlapping tiles in pixels, for pictures larger than memory.

        Raises:
            BitstreamError, CheckpointError, OptionError: as for `DiffEICPipeline.decompress`.
        """
        if tile is not None:
            self.pipeline.vae.enable_tiling()
        self.pipeline.set_progress_bar_config(disable=steps == 0 or None, leave=False)
        return self.pipeline.decompress(
            data,
            tile=tile,
            num_inference_steps=steps,
            start=start,
            scheduler=None if scheduler is None else self.stock(scheduler),
            output_type=output_type,
            max_pixels=max_pixels,
        )

    @torch.no_grad()
    def figures(self, image: Picture, data: bytes) -> dict[str, float]:
        """What the paper looks at beside the picture.

        Args:
            image: the original.
            data: its file.

        Returns:
            ``content-distance``: mean square by which z_c misses the VAE's latent (its Fig. 7 a);
            ``hyper-share``: of the estimated bits, those of z (equation 14);
            ``vae-psnr``: what VAE and nothing else loses, dB, the bound of all pictures.
        """
        pipe = self.pipeline
        x = pad(to_tensor(image)).to(pipe.device)
        z_0 = encode(pipe.vae, x)
        missed = pipe.read(data).z_c - z_0
        out = pipe.codec.model(x, z_0)
        bits = {name: float(-p.log2().sum()) for name, p in out["likelihoods"].items()}
        error = (decode(pipe.vae, z_0).clamp(0, 1) - x).square().mean()
        return {
            "content-distance": float(missed.square().mean()),
            "hyper-share": bits["z"] / max(sum(bits.values()), 1e-9),
            "vae-psnr": float(-10 * error.log10()),
        }

    def stock(self, name: str) -> Any:
        """A stock scheduler with the betas of the pipeline's own.

        Raises:
            UnknownNameError: naming those there are.
        """
        import diffusers

        if name not in SCHEDULERS:
            raise UnknownNameError("scheduler", name, SCHEDULERS)
        kind = getattr(diffusers, SCHEDULERS[name])
        config = self.pipeline.scheduler.config
        return kind.from_config(config, clip_sample=False, thresholding=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' bar for the loading of components: it belongs to no command's output."""
    from diffusers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def first_known() -> Path:
    """The codec's folder of the first DiffEIC pipeline on this machine.

    Raises:
        CheckpointError: if there is none.
    """
    for entry in known():
        if entry.architecture == ARCHITECTURE and not entry.downloaded:
            return entry.folder
    raise CheckpointError(
        "no trained DiffEIC is known here: pass --checkpoint with a folder or Hub repo id, made by "
        "`cgen convert diffeic` from a released one, or by `cgen train diffeic`"
    )


def pipeline_of(checkpoint: str | Path) -> str:
    """The pipeline's folder or repo id: of a codec's folder the one around it."""
    folder = Path(checkpoint).expanduser()
    if not (folder / INDEX).is_file() and (folder.parent / INDEX).is_file():
        return str(folder.parent)
    return str(folder) if folder.is_dir() else str(checkpoint)
