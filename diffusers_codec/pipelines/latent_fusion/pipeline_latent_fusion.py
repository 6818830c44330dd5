"""LatentFusionPipeline: one file, and a dial from the faithful to the realistic picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from compressai_gen.bitstream import MAX_PIXELS
from compressai_gen.codec import ModelCodec
from compressai_gen.codec.enhancers import DecodedLatents
from compressai_gen.images import from_tensor
from compressai_gen.models.latents import in_fast_order
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.noise import Generators, drawn_seeds
from diffusers_codec.pipelines.callbacks import (
    LATENTS,
    OnStepEnd,
    StepCallback,
    check_tensor_inputs,
    step_callback,
)
from diffusers_codec.pipelines.codec import CodecPipelineOutput
from diffusers_codec.pipelines.latent_fusion.sampling import (
    STEPS,
    check_scheduler,
    check_tau,
    mix,
    sample,
)
from diffusers_codec.pipelines.pictures import (
    Pictures,
    as_output,
    bits_per_pixel,
    check_output_type,
    pictures,
)
from diffusers_codec.pipelines.publishing import PublishedPipeline

Scheduler: TypeAlias = (  # whose classes diffusers reads off the constructor's annotation
    DDIMScheduler
    | DDPMScheduler
    | DPMSolverMultistepScheduler
    | EulerDiscreteScheduler
    | UniPCMultistepScheduler
)


@dataclass(frozen=True)
class FusedLatents:
    """One sampling, from which `LatentFusionPipeline.render` makes the picture at any tau.

    Attributes:
        y_hat: the decoded latent, as ``g_s`` takes it, shape (1, C, h, w).
        y_tilde: the sampled one, at tau = 0.
        decoded: what the codec decoded, with the file's header.
    """

    y_hat: Tensor
    y_tilde: Tensor
    decoded: DecodedLatents


class LatentFusionPipeline(PublishedPipeline):
    """A codec with a distortion-perception dial at the decoder; its files stay as they are.

    .. code-block:: none

        image ─► compress ─► .cgen bytes ─► y_hat ─┬──────────────── tau² ──┐
                                                   │                        ▼
                                         noise ─► D, some steps ─ 1 - tau² ─► + ─► g_s ─► image

    At tau = 1 the picture is the base codec's own, bit for bit. At tau = 0 it is the one D was
    trained for: more realistic for a base trained for distortion, more faithful for one trained for
    perception. The start noise is a function of the file.

    Args:
        codec: a CompressAI model, stock or ours.
        fusion: D, for a base of its width and, where it records one, for that base only.
        scheduler: `sampling.default_scheduler()` or another stock scheduler with
            ``prediction_type="sample"``.

    Example:
        >>> pipe = LatentFusionPipeline.from_pretrained("path/to/pipeline")  # doctest: +SKIP
        >>> pipe.decompress(data, tau=0.3)  # doctest: +SKIP
        <PIL.Image.Image image mode=RGB size=768x512>
    """

    codec: CompressionModelComponent
    fusion: LatentFusionModel
    scheduler: Any
    model_cpu_offload_seq = "codec->fusion"  # type: ignore[assignment]  # None in the base class
    # offloaded as a whole or not at all: layer by layer would split the entropy path
    _exclude_from_cpu_offload = ["codec"]  # noqa: RUF012  (an instance variable in the base class)

    def __init__(
        self, codec: CompressionModelComponent, fusion: LatentFusionModel, scheduler: Scheduler
    ) -> None:
        super().__init__()
        self.register_modules(codec=codec, fusion=fusion, scheduler=scheduler)

    # -- bytes --------------------------------------------------------------------------------

    def compress(
        self,
        image: Any,
        *,
        quality: float | None = None,
        tau: float | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> bytes:
        """One picture to the content of a ``.cgen`` file, which the codec alone reads as well.

        Args:
            image: PIL image, uint8 array (H, W, 3), or float tensor (3, H, W) or (1, 3, H, W) in
                [0, 1]; any size.
            quality: rate point of a variable-rate model; None for its default.
            tau: the sender's wish, kept in the header in steps of 1/255; None for none.
            num_inference_steps: likewise.
            **options: of the codec's ``compress``.

        Raises:
            ImageError: for a picture that cannot be coded as it is.
            OptionError: if the quality or a wish is out of range.
        """
        wishes = {"tau": tau, "steps": num_inference_steps}
        options |= {name: wish for name, wish in wishes.items() if wish is not None}
        data = self.codec.codec().compress(image, quality=quality, **options)
        self.maybe_free_model_hooks()
        return data

    @torch.no_grad()
    def decompress(
        self,
        data: bytes,
        *,
        tau: float | None = None,
        num_inference_steps: int | None = None,
        mode: str = "cached",
        output_type: str = "pil",
        seed: int | None = None,
        max_pixels: int = MAX_PIXELS,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> Any:
        """The content of a ``.cgen`` file to its picture.

        Args:
            data: written by this codec, whether through this pipeline or not.
            tau: 0 (D's picture) to 1 (the base codec's); None for the sender's wish, without one 0.
            num_inference_steps: steps of the scheduler, each one evaluation of D (Heun: two); None
                for the sender's wish, without one 10.
            mode: "cached" mixes after sampling; "paper" in every step, equation 4, DDIM only.
            output_type: "pil", "np" (uint8, (H, W, 3)) or "pt" (float32, (3, H, W), in [0, 1]).
            seed: of the noise, for other samples than the file's own.
            max_pixels: larger pictures are refused.
            callback_on_step_end: called as ``f(pipeline, step, timestep, {"latents": y_t})`` after
                each step; y_t is normalised and can be replaced by returning such a dictionary.
            callback_on_step_end_tensor_inputs: the callback's tensors, "latents" or none.

        Raises:
            BitstreamError: if the data are damaged, or not a ``.cgen`` file.
            CheckpointError: another checkpoint wrote them; D is for another base, or has NaNs.
            OptionError: an argument out of range, or a scheduler that cannot be used so.
        """
        names = callback_on_step_end_tensor_inputs
        self.check_inputs(tau, num_inference_steps, mode, output_type, names)
        decoded = self._decode(self.codec.codec(), data, max_pixels)
        dial = _first(tau, decoded.header.tau, 0.0)
        steps = _first(num_inference_steps, decoded.header.steps, STEPS)
        callback = step_callback(self, callback_on_step_end, names)
        latent = self._sample(decoded, steps, mode, dial, seed, callback)
        image = self._synthesize(latent, decoded, output_type)
        self.maybe_free_model_hooks()
        return image

    # -- one sampling, any tau ----------------------------------------------------------------

    @torch.no_grad()
    def fuse(
        self,
        data: bytes,
        *,
        num_inference_steps: int | None = None,
        seed: int | None = None,
        max_pixels: int = MAX_PIXELS,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> FusedLatents:
        """Sample once ("cached" mode); :meth:`render` then costs one synthesis for any tau.

        The arguments and errors are those of :meth:`decompress`.
        """
        names = callback_on_step_end_tensor_inputs
        self.check_inputs(None, num_inference_steps, "cached", "pt", names)
        decoded = self._decode(self.codec.codec(), data, max_pixels)
        steps = _first(num_inference_steps, decoded.header.steps, STEPS)
        callback = step_callback(self, callback_on_step_end, names)
        y_tilde = self._sample(decoded, steps, "cached", 0.0, seed, callback)
        self.maybe_free_model_hooks()
        return FusedLatents(decoded.y_hat, y_tilde, decoded)

    @torch.no_grad()
    def render(
        self, fused: FusedLatents, tau: float | None = None, output_type: str = "pil"
    ) -> Any:
        """The picture at ``tau``; the arguments are those of :meth:`decompress`.

        Raises:
            OptionError: for a tau outside [0, 1] or another output type.
        """
        check_output_type(output_type)
        dial = _first(tau, fused.decoded.header.tau, 0.0)
        latent = mix(fused.y_tilde, fused.y_hat, dial)
        image = self._synthesize(latent, fused.decoded, output_type)
        self.maybe_free_model_hooks()
        return image

    # -- the call -----------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image: Pictures,
        quality: float | None = None,
        tau: float | None = None,
        num_inference_steps: int | None = None,
        mode: str = "cached",
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
            quality: rate point of a variable-rate model; None for its default.
            tau: 0 (D's picture) to 1 (the base codec's); None for 0.
            num_inference_steps: steps of the scheduler, each one evaluation of D (Heun: two); None
                for 10.
            mode: "cached" or "paper", see :meth:`decompress`.
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
        self.check_inputs(tau, num_inference_steps, mode, output_type, names)
        dial, steps = _first(tau, 0.0), _first(num_inference_steps, STEPS)
        callback, given = step_callback(self, callback_on_step_end, names), pictures(image)
        files, decoded = [], []
        for picture, seed in zip(given, drawn_seeds(generator, len(given)), strict=True):
            codec = self.codec.codec()
            files.append(codec.compress(picture, quality=quality))
            latents = self._decode(codec, files[-1])
            latent = self._sample(latents, steps, mode, dial, seed, callback)
            decoded.append(self._synthesize(latent, latents, "pt"))
        self.maybe_free_model_hooks()
        rates = bits_per_pixel(files, decoded)
        images = as_output(decoded, output_type)
        if not return_dict:
            return images, rates, files
        return CodecPipelineOutput(images=images, bits_per_pixel=rates, files=files)

    def check_inputs(
        self,
        tau: float | None,
        num_inference_steps: int | None,
        mode: str,
        output_type: str,
        callback_on_step_end_tensor_inputs: Sequence[str] = LATENTS,
    ) -> None:
        """Everything that can be checked without a file.

        Raises:
            OptionError: an argument out of range, or a scheduler that cannot be used so.
            CheckpointError: a part is missing, or D has weights or statistics that cannot be.
        """
        check_output_type(output_type)
        check_tensor_inputs(callback_on_step_end_tensor_inputs)
        self.check_present()
        check_tau(_first(tau, 0.0))
        check_scheduler(self.scheduler, mode, _first(num_inference_steps, STEPS))
        self.fusion.check_weights()

    # -- parts --------------------------------------------------------------------------------

    def _decode(
        self, codec: ModelCodec, data: bytes, max_pixels: int = MAX_PIXELS
    ) -> DecodedLatents:
        """The latents of a file, for which D is the right one."""
        decoded = codec.decode_latents(data, max_pixels)
        channels = decoded.y_hat.shape[1]
        self.fusion.check_base(codec.fingerprint, codec.synthesis, channels)
        return decoded

    def _sample(
        self,
        decoded: DecodedLatents,
        steps: int,
        mode: str,
        tau: float,
        seed: int | None,
        callback: StepCallback | None,
    ) -> Tensor:
        """The fused latent, with a progress bar where there is something to do."""
        if tau == 1:
            return decoded.y_hat
        return sample(
            self.fusion,
            self.scheduler,
            decoded.y_hat,
            quality=decoded.quality,
            seed=_first(seed, decoded.seed),
            num_inference_steps=steps,
            mode=mode,
            tau=tau,
            callback=callback,
            progress=self.progress_bar,
        )

    def _synthesize(self, latent: Tensor, decoded: DecodedLatents, output_type: str) -> Any:
        """Crop, clamp and convert, as the codec itself does."""
        if latent is not decoded.y_hat:
            latent = in_fast_order(latent)
        x_hat = self.codec.synthesize(latent)
        header = decoded.header
        return from_tensor(x_hat[:, :, : header.height, : header.width], output_type)


def _first(*values: Any) -> Any:
    """The first that is not None."""
    return next(value for value in values if value is not None)
