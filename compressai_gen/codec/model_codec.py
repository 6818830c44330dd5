"""`ModelCodec`: any CompressAI image model as a codec of ``.cgen`` files."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.bitstream import MAX_PIXELS, Header, pack, unpack
from compressai_gen.checkpoints import load_model, read_config
from compressai_gen.checkpoints.fingerprint import model_fingerprint, synthesis_hash
from compressai_gen.codec import enhancers, host_strings
from compressai_gen.codec.coders import Coder, HostCoder, PortableCoder
from compressai_gen.codec.geometry import pad
from compressai_gen.codec.origin import check_origin
from compressai_gen.codec.placement import parse_device, parse_dtype
from compressai_gen.errors import CheckpointError, CodecError, CorruptedFileError, OptionError
from compressai_gen.images import MAX_SIDE, Picture, from_tensor, to_tensor
from compressai_gen.models.gain import QUALITY_STEP
from compressai_gen.models.variable_rate import DEFAULT_QUALITY, VariableRateModel
from compressai_gen.notes import SynthesisWarning
from compressai_gen.plugins import registry


class ModelCodec:
    """A CompressAI model instance, stock or ours, that reads and writes files.

    .. code-block:: none

        picture ─► pad to 64 ─► analysis ─► portable.encode ─► container ─► bytes
        bytes ─► container ─► portable.decode ─► synthesis (or an enhancer) ─► crop ─► picture

    Where the model has a fixed-point entropy path (``model.portable``) files decode to the same
    latents everywhere. Models without one are coded with their own ``compress``, in the profile
    marked non-portable, with a `NonPortableWarning`.

    Args:
        model: with its tables; it is set to evaluation mode and moved to ``device``.
        name: zoo name.
        quality: default rate point of a variable-rate model, or the zoo quality of a single-rate
            one (told in the header).
        device: where the transforms run.
        dtype: that the synthesis of ``model`` is cast to, float32, bfloat16 or float16; a
            non-portable model needs float32.
        metric: what the model was trained for.

    Attributes:
        quality_range: lowest and highest rate point of a variable-rate model; None otherwise.
        enhanced: which enhancer made the last picture, or is wished for in the last file, and with
            which options; None for the codec's own picture. See `enhancers.enhancement`.

    Raises:
        OptionError: a device, dtype or quality that cannot be used.
    """

    def __init__(
        self,
        model: CompressionModel,
        name: str,
        *,
        quality: float | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        metric: str = "mse",
    ) -> None:
        self.name, self.metric = name, metric
        self.device, precision = parse_device(device), parse_dtype(dtype)
        if isinstance(model, VariableRateModel):
            model.entropy_path()  # it has no other strings
        self.fingerprint = model_fingerprint(model)
        self.synthesis = synthesis_hash(model)
        self.model = model.eval().to(self.device)
        self.portable = getattr(model, "portable", None) is not None
        self.coder: Coder = (PortableCoder if self.portable else HostCoder)(model, name)
        if self.portable:
            model.g_s.to(precision)
        elif precision != torch.float32:
            raise OptionError(f"{name} is not portable and runs in float32 only")
        self.enhanced: dict[str, Any] | None = None
        self.quality_range = _quality_range(model)
        self.quality = quality
        if self.quality_range:
            wanted = min(DEFAULT_QUALITY, self.quality_range[1]) if quality is None else quality
            self.quality = self.check_quality(wanted)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        quality: float | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
    ) -> ModelCodec:
        """A codec from a checkpoint folder, safetensors file or Hub repo id.

        Raises:
            CheckpointError: missing, incomplete or damaged.
            OptionError: quality out of range, or not the one of a single-rate checkpoint.
        """
        config, model = read_config(source), load_model(source)
        own = None if _quality_range(model) else config.quality
        codec = cls(
            model,
            config.architecture,
            quality=own,
            device=device,
            dtype=dtype,
            metric=config.metric,
        )
        codec.quality = codec.check_quality(quality)
        return codec

    def check_quality(self, quality: float | None) -> float | None:
        """The rate point to use, on the 1/256 grid of the header; None gives the default.

        Raises:
            OptionError: out of range, or other than a single-rate model's own.
        """
        if quality is None or quality == self.quality:
            return self.quality
        if self.quality_range is None:
            own = "" if self.quality is None else f" ({self.quality:g})"
            raise OptionError(
                f"quality {quality:g}: this {self.name} checkpoint has one fixed rate{own}"
            )
        low, high = self.quality_range
        if not low <= quality <= high:
            raise OptionError(
                f"quality {quality:g} is out of range: {self.name} takes any real number from "
                f"{low:g} (smallest file) to {high:g} (best picture)"
            )
        return round(quality * QUALITY_STEP) / QUALITY_STEP

    def compress(self, image: Picture, *, quality: float | None = None, **options: Any) -> bytes:
        """A picture as the bytes of a ``.cgen`` file.

        Args:
            image: PIL image, uint8 array (H, W, 3) or float tensor (3, H, W) in [0, 1].
            quality: rate point, by default the codec's ``quality``.
            **options: the sender's wishes for an enhancer (``tau``, ``steps``, ...), kept in the
                header.

        Raises:
            OptionError: quality out of range, or an unknown option.
            ImageError: a picture that cannot be coded.
        """
        return self.encoder(image, **options)(quality)

    @torch.inference_mode()
    def encoder(self, image: Picture, **options: Any) -> Callable[[float | None], bytes]:
        """`compress` for several rate points of one picture: ``encoder(image)(quality)``."""
        wishes = enhancers.check_wishes(self.name, options)
        self.enhanced = enhancers.enhancement(self.name, options, "compress")
        x = to_tensor(image)
        height, width = x.shape[-2:]
        if max(height, width) > MAX_SIDE:
            raise OptionError(f"{width}x{height}: at most {MAX_SIDE} pixels a side")
        encode = self.coder.encoder(pad(x).to(self.device))

        def compress_at(quality: float | None = None) -> bytes:
            rate = self.check_quality(quality)
            with torch.inference_mode():
                chunks, crc = encode(rate if self.quality_range else None)
            header = Header(
                fingerprint=self.fingerprint,
                synthesis=self.synthesis,
                height=height,
                width=width,
                symbols_crc=crc,
                quality=rate,
                portable=self.portable,
                **wishes,
            )
            return pack(header, chunks)

        return compress_at

    @torch.inference_mode()
    def decompress(
        self,
        data: bytes,
        *,
        output_type: str = "pil",
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> Any:
        """The picture in a ``.cgen`` file.

        Args:
            data: the file.
            output_type: ``"pil"``, ``"np"`` (uint8, (H, W, 3)) or ``"pt"`` (float, (3, H, W)).
            max_pixels: larger pictures are refused.
            **options: of an enhancer registered for this codec, which then makes the picture.

        Raises:
            BitstreamError: whatever is wrong with the file.
            CheckpointError: written with another checkpoint.
            OptionError: an unknown option, or a value out of range.
        """
        header, chunks = unpack(data, max_pixels)
        self._check_origin(header)
        self.enhanced, enhance = None, self._enhance(header, options)
        if enhance is None:
            x_hat = self.coder.picture(header, chunks, self._rate_point(header))
        else:
            x_hat = enhance(self._latents(header, chunks))
        return from_tensor(x_hat[:, :, : header.height, : header.width], output_type)

    @torch.inference_mode()
    def decode_latents(self, data: bytes, max_pixels: int = MAX_PIXELS) -> enhancers.DecodedLatents:
        """The latents of a file, without making a picture of them.

        Args:
            data: the file.
            max_pixels: larger pictures are refused.

        Raises:
            BitstreamError, CheckpointError: as for `decompress`.
        """
        header, chunks = unpack(data, max_pixels)
        self._check_origin(header)
        return self._latents(header, chunks)

    def _latents(self, header: Header, chunks: list[bytes]) -> enhancers.DecodedLatents:
        quality = self._rate_point(header)
        return enhancers.DecodedLatents(
            y_hat=self.coder.latent(header, chunks, quality),
            quality=quality,
            header=header,
            model=self.model,
            codec=self.name,
            synthesis=self.synthesis,
            seed=zlib.crc32(b"".join(chunks)) if header.seed is None else header.seed,
        )

    def _enhance(
        self, header: Header, options: dict[str, Any]
    ) -> Callable[[enhancers.DecodedLatents], Tensor] | None:
        """The enhancer asked for by the caller, or else by the sender, ready to be called."""
        wishes = enhancers.wishes(header)
        given = {**wishes, **options}
        try:
            chosen = enhancers.choose_enhancer(self.name, given, "decompress")
        except OptionError as error:
            if options:
                raise
            _tell_wish(wishes, error)
            return None
        if chosen is None:
            return None
        name, checked = chosen
        enhancer: enhancers.Enhancer = registry("enhancers").load(name)()

        def enhance(latents: enhancers.DecodedLatents) -> Tensor:
            try:
                picture = enhancer.enhance(latents, **checked)
            except CheckpointError as error:
                if options:
                    raise
                _tell_wish(wishes, error)
                return latents.synthesize()
            self.enhanced = enhancers.enhancement(self.name, given, "decompress")
            return picture

        return enhance

    def _check_origin(self, header: Header) -> None:
        """Refuses a file of another checkpoint, warns about another synthesis."""
        check_origin(header, self.name, self.fingerprint, self.synthesis)
        if header.portable != self.portable:
            raise CorruptedFileError("the header's profile is not the one of its checkpoint")

    def _rate_point(self, header: Header) -> float | None:
        """The rate point of a file of a variable-rate model."""
        if self.quality_range is None:
            return None
        if header.quality is None or header.quality > self.quality_range[1]:
            raise CorruptedFileError(f"{self.name} has no rate point {header.quality}")
        return header.quality


def _tell_wish(wishes: dict[str, Any], reason: CodecError) -> None:
    """Warns that the base picture is made although the sender wished for another."""
    note = f"the sender's wish ({', '.join(wishes)}) is not followed: {reason}"
    warnings.warn(note, SynthesisWarning, stacklevel=5)


def _quality_range(model: CompressionModel) -> tuple[float, float] | None:
    count = model.levels if isinstance(model, VariableRateModel) else host_strings.levels(model)
    return None if count is None else (0.0, float(count - 1))
