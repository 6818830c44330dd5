"""DiffEICPipeline: pictures at less than 0.15 bits per pixel, drawn by a latent diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from compressai_gen.bitstream import MAX_PIXELS
from compressai_gen.codec.geometry import pad
from compressai_gen.errors import ImageError
from compressai_gen.images import MAX_SIDE, from_tensor, to_tensor
from compressai_gen.models.lfgcm import STRIDE, Lfgcm
from diffusers_codec.models.autoencoders import Autoencoder, decode, encode
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.models.diffeic_control import DiffEICControlModel
from diffusers_codec.noise import Generators, drawn_seeds
from diffusers_codec.pipelines.callbacks import (
    LATENTS,
    OnStepEnd,
    check_tensor_inputs,
    step_callback,
)
from diffusers_codec.pipelines.codec import CodecPipelineOutput
from diffusers_codec.pipelines.diffeic import files
from diffusers_codec.pipelines.diffeic.components import check_components, check_tile, lfgcm_of
from diffusers_codec.pipelines.diffeic.files import Content
from diffusers_codec.pipelines.diffeic.sampling import check_steps, default_steps, sample
from diffusers_codec.pipelines.pictures import (
    Pictures,
    as_output,
    bits_per_pixel,
    check_output_type,
    pictures,
)
from diffusers_codec.pipelines.publishing import PublishedPipeline

Scheduler: TypeAlias = (  # whose classes diffusers reads off the constructor's annotation
    DDPMScheduler
    | DDIMScheduler
    | DPMSolverMultistepScheduler
    | EulerDiscreteScheduler
    | UniPCMultistepScheduler
)


class DiffEICPipeline(PublishedPipeline):
    """A small codec for the content, a large diffusion model for the rest.

    .. code-block:: none

        image ─┬────────────► LFGCM ─► .cgen bytes ─► LFGCM ─► z_c ─► control ──┐
               └► VAE ─► z_g ──▲                                │               ▼
                                                   0 steps ─────┤   noise ─► UNet, some steps
                                                                ▼               ▼
                                                         image ◄─ VAE ◄─────────┘

    Li et al., "Toward Extreme Image Compression with Latent Feature Guidance and Diffusion Prior",
    TCSVT 2024 (arXiv 2404.18820). VAE, UNet and scheduler are stock and can be replaced by others
    of the same latent space, on the same files; the noise is a function of the file alone.

    Args:
        vae: `AutoencoderKL` or `AutoencoderTiny` with the codec's latents.
        unet: any UNet of Stable Diffusion 1.x or 2.x, for eps or v.
        control: the control module made for that UNet; it holds the empty prompt's embedding.
        codec: an LFGCM (``diffeic-lfgcm``).
        scheduler: `sampling.default_scheduler()`, the paper's, or another stock one.
        start: where sampling starts unless the caller says: 1 for pure noise, as the released
            checkpoints; below 1 for checkpoints that were refined so.

    Example:
        >>> pipe = DiffEICPipeline.from_pretrained("path/to/pipeline")  # doctest: +SKIP
        >>> pipe.decompress(data, num_inference_steps=20)  # doctest: +SKIP
        <PIL.Image.Image image mode=RGB size=768x512>
    """

    vae: Any
    unet: Any
    control: Any
    codec: CompressionModelComponent
    scheduler: Any
    model_cpu_offload_seq = "codec->control->unet->vae"  # type: ignore[assignment]
    # offloaded as a whole or not at all: layer by layer would split the entropy path
    _exclude_from_cpu_offload = ["codec"]  # noqa: RUF012  (an instance variable in the base class)

    def __init__(
        self,
        vae: Autoencoder,
        unet: UNet2DConditionModel,
        control: DiffEICControlModel,
        codec: CompressionModelComponent,
        scheduler: Scheduler,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, control=control, codec=codec, scheduler=scheduler)
        self.register_to_config(start=start)

    # -- bytes --------------------------------------------------------------------------------

    @torch.no_grad()
    def compress(self, image: Any, *, num_inference_steps: int | None = None) -> bytes:
        """One picture to the content of a ``.cgen`` file.

        Args:
            image: PIL image, uint8 array (H, W, 3), or float tensor (3, H, W) or (1, 3, H, W) in
                [0, 1]; any size.
            num_inference_steps: the sender's wish, kept in the header; None for none.

        Raises:
            ImageError: for a picture that cannot be coded as it is.
            CheckpointError: if the components do not fit together.
            OptionError: for steps out of range.
        """
        if num_inference_steps is not None:
            check_steps(self.scheduler, num_inference_steps, self._start(None))
        self.check_components()
        data = self._write(to_tensor(image), num_inference_steps)
        self.maybe_free_model_hooks()
        return data

    @torch.no_grad()
    def decompress(
        self,
        data: bytes,
        *,
        num_inference_steps: int | None = None,
        scheduler: Any = None,
        start: float | None = None,
        tile: int | None = None,
        output_type: str = "pil",
        seed: int | None = None,
        max_pixels: int = MAX_PIXELS,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> Any:
        """The content of a ``.cgen`` file to its picture.

        Args:
            data: written by this codec.
            num_inference_steps: passes of the UNet; 0 for the content variable straight through the
                VAE; None for the sender's wish, without one 50.
            scheduler: a stock one instead of the pipeline's.
            start: 1 from pure noise; less from the content variable, noised to that share of the
                time steps; None for the pipeline's own.
            tile: side of overlapping tiles in pixels, for pictures larger than memory (with
                ``pipe.vae.enable_tiling()``); None for the whole picture.
            output_type: "pil", "np" (uint8, (H, W, 3)) or "pt" (float32, (3, H, W), in [0, 1]).
            seed: of the noise, for other samples than the file's own.
            max_pixels: larger pictures are refused.
            callback_on_step_end: called as ``f(pipeline, step, timestep, {"latents": z_t})`` after
                each step; z_t can be replaced by returning such a dictionary.
            callback_on_step_end_tensor_inputs: the callback's tensors, "latents" or none.

        Raises:
            BitstreamError: if the data are damaged, or not a ``.cgen`` file.
            CheckpointError: another checkpoint wrote them, or the components do not fit together.
            OptionError: an argument out of range, or a scheduler that cannot be used so.
        """
        names = callback_on_step_end_tensor_inputs
        self.check_inputs(num_inference_steps, start, output_type, scheduler, names)
        content = self.read(data, max_pixels)
        image = self.render(
            content,
            num_inference_steps=num_inference_steps,
            scheduler=scheduler,
            start=start,
            tile=tile,
            output_type=output_type,
            seed=seed,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=names,
        )
        self.maybe_free_model_hooks()
        return image

    @torch.no_grad()
    def read(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Content:
        """The content variable of a file, from which :meth:`render` makes pictures.

        Raises:
            BitstreamError, CheckpointError: as for :meth:`decompress`.
        """
        model = self._model()
        return files.read(model, data, files.synthesis_hash(model, self.control), max_pixels)

    @torch.no_grad()
    def render(
        self,
        content: Content,
        *,
        num_inference_steps: int | None = None,
        scheduler: Any = None,
        start: float | None = None,
        tile: int | None = None,
        output_type: str = "pil",
        seed: int | None = None,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> Any:
        """A picture of a content variable; arguments and errors as for :meth:`decompress`."""
        steps = content.header.steps if num_inference_steps is None else num_inference_steps
        if steps is None:
            steps = default_steps(scheduler or self.scheduler, self._start(start))
        side = None if tile is None else check_tile(tile) // STRIDE
        latents = sample(
            self.unet,
            self.control,
            scheduler or self.scheduler,
            content.z_c.to(self._execution_device),
            seed=content.seed if seed is None else seed,
            num_inference_steps=steps,
            start=self._start(start),
            tile=side,
            callback=step_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs),
            progress=self.progress_bar,
        )
        x_hat = decode(self.vae, latents)
        header = content.header
        return from_tensor(x_hat[:, :, : header.height, : header.width], output_type)

    # -- the call -----------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image: Pictures,
        num_inference_steps: int | None = None,
        start: float | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        generator: Generators = None,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> CodecPipelineOutput | tuple[Any, list[float], list[bytes]]:
        """Compress and decompress, through real files.

        Args:
            image: a PIL image, an array (H, W, 3) or (B, H, W, 3) of uint8 or of floats in [0, 1],
                a float tensor (3, H, W) or (B, 3, H, W) in [0, 1], or a list of any of them.
            num_inference_steps, start: see :meth:`decompress`.
            output_type: "pil", "np" or "pt".
            return_dict: False for a plain tuple.
            generator: draws a seed for every picture, or a list of one for each; None for the
                files' own noise.
            callback_on_step_end, callback_on_step_end_tensor_inputs: see :meth:`decompress`.

        Returns:
            The decoded pictures, the bits per pixel and the files.

        Raises:
            ImageError: for a picture that cannot be coded as it is.
            CheckpointError, OptionError: see :meth:`decompress`.
        """
        names = callback_on_step_end_tensor_inputs
        self.check_inputs(num_inference_steps, start, output_type, None, names)
        given = pictures(image)
        written, decoded = [], []
        for picture, seed in zip(given, drawn_seeds(generator, len(given)), strict=True):
            written.append(self._write(to_tensor(picture), None))
            decoded.append(
                self.render(
                    self.read(written[-1]),
                    num_inference_steps=num_inference_steps,
                    start=start,
                    output_type="pt",
                    seed=seed,
                    callback_on_step_end=callback_on_step_end,
                    callback_on_step_end_tensor_inputs=names,
                )
            )
        self.maybe_free_model_hooks()
        rates = bits_per_pixel(written, decoded)
        images = as_output(decoded, output_type)
        if not return_dict:
            return images, rates, written
        return CodecPipelineOutput(images=images, bits_per_pixel=rates, files=written)

    # -- parts --------------------------------------------------------------------------------

    def check_inputs(
        self,
        num_inference_steps: int | None,
        start: float | None,
        output_type: str,
        scheduler: Any,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> None:
        """Everything that can be checked without a picture.

        Raises:
            OptionError: an argument out of range, or a scheduler that cannot be used so.
            CheckpointError: if the components do not fit together.
        """
        check_output_type(output_type)
        check_tensor_inputs(callback_on_step_end_tensor_inputs)
        scheduler, start = scheduler or self.scheduler, self._start(start)
        steps = num_inference_steps
        check_steps(scheduler, default_steps(scheduler, start) if steps is None else steps, start)
        self.check_components()

    def check_components(self) -> None:
        """Whether VAE, UNet, control module and codec speak of the same latents.

        Raises:
            CheckpointError: names the two that do not, or a missing one.
        """
        self.check_present()
        check_components(self.components)

    def _start(self, start: float | None) -> float:
        return float(self.config["start"]) if start is None else start

    def _model(self) -> Lfgcm:
        self.codec.onload()
        return lfgcm_of(self.codec)

    def _write(self, x: Tensor, steps: int | None) -> bytes:
        """The file of a picture (1, 3, H, W) in [0, 1]."""
        height, width = x.shape[-2:]
        if max(height, width) > MAX_SIDE:
            raise ImageError(f"{width}x{height}: at most {MAX_SIDE} pixels a side")
        model, x = self._model(), pad(x).to(self._execution_device)
        guidance = encode(self.vae, x) if model.guidance else None
        synthesis = files.synthesis_hash(model, self.control)
        return files.write(model, x, guidance, (height, width), synthesis, steps)
