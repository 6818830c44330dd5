"""`Codec`: a picture <-> the bytes of a file; and how one is found by name or by a file.

The command line, the evaluation and the pipelines speak only this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from compressai_gen.bitstream import MAX_PIXELS, codec_fingerprint, unpack
from compressai_gen.checkpoints import find_fingerprint, known, read_config, stock_checkpoint
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import CheckpointError, OptionError, UnknownNameError
from compressai_gen.images import Picture
from compressai_gen.models.variable_rate import DEFAULT_QUALITY
from compressai_gen.options import parse_options
from compressai_gen.plugins import file_codec, registry

DEFAULT_CODEC = "cheng2020-anchor-vbr"


class Codec(Protocol):
    """The two verbs. Extra keyword arguments are the codec's registered options.

    A plugin's file codec is registered as a callable ``make(*, checkpoint, device, dtype)`` that
    returns one of these, a class for example. Its files carry the `codec_fingerprint` of its
    name, or the fingerprint of its checkpoint. It may have more methods: ``figures(image,
    data)``, for what only it can measure of a picture and its file: names to numbers, which
    ``cgen evaluate`` adds to the results; and ``encoder(image, **options)``, which gives a
    function of the quality to files of one picture. Where an attribute ``goes_down`` is True, its
    fit at one quality goes on from one at a higher quality, and the evaluation uses it. Where
    ``overfits`` is True, `compress` is a training, and is not called just to warm up. One that
    knows its rate without coding has ``qualities_near(bpp, pixels)``: the lowest and the highest
    quality to look at for a budget. What it keeps in ``enhanced`` (`ModelCodec`) is told by
    ``cgen compress`` and ``decompress``.
    """

    def compress(self, image: Picture, *, quality: float | None = None, **options: Any) -> bytes:
        """A picture (PIL, uint8 (H, W, 3) or float tensor (3, H, W) in [0, 1]) to a file."""
        ...

    def decompress(
        self,
        data: bytes,
        *,
        output_type: str = "pil",
        max_pixels: int = MAX_PIXELS,
        **options: Any,
    ) -> Any:
        """A file to a picture: ``"pil"``, ``"np"`` (uint8) or ``"pt"`` (float in [0, 1])."""
        ...


def open_codec(
    name: str | None = None,
    *,
    checkpoint: str | Path | None = None,
    quality: float | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Codec:
    """A codec by the name of a zoo model, stock or ours, or of a plugin's file codec.

    The name of a zoo model whose files a file codec writes stands for that one.

    Args:
        name: default ``"cheng2020-anchor-vbr"``, or whatever ``checkpoint`` holds.
        checkpoint: folder, safetensors file or Hub repo id, instead of the one known here.
        quality: default rate point of a variable-rate codec; chooses the weights of a single-rate
            one (default 4).
        device: where the networks run.
        dtype: of the synthesis.

    Raises:
        UnknownNameError: no such codec; the nearest are suggested.
        CheckpointError: no trained weights here, or ``checkpoint`` holds another architecture.
        OptionError: quality out of range, or unusable device or dtype.
    """
    own = None if name is None else file_codec(name)
    if own is not None:
        return registry("codecs").load(own)(checkpoint=checkpoint, device=device, dtype=dtype)
    if checkpoint is None:
        name = name or DEFAULT_CODEC
        checkpoint = _find_weights(name, quality)
    around = file_codec(read_config(checkpoint).architecture)
    if around is not None and name is None:
        return open_codec(around, checkpoint=checkpoint, device=device, dtype=dtype)
    codec = ModelCodec.from_pretrained(checkpoint, quality=quality, device=device, dtype=dtype)
    if name is not None and codec.name != name:
        _check_name(name)
        raise CheckpointError(f"{checkpoint} holds a {codec.name}, not a {name}")
    return codec


def codec_for(
    data: bytes,
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Codec:
    """The codec that reads a file, found by the fingerprint and the synthesis in its header.

    Args:
        data: the file.
        checkpoint: instead of searching the checkpoints known here.
        device, dtype: as for `open_codec`.
        max_pixels: larger pictures are refused.

    Raises:
        BitstreamError: not a file of ours, or damaged.
        UnknownCheckpointError: its checkpoint is not on this machine.
    """
    header, _ = unpack(data, max_pixels)
    for name in registry("codecs"):
        if codec_fingerprint(name) == header.fingerprint:
            return open_codec(name, checkpoint=checkpoint, device=device, dtype=dtype)
    source = checkpoint
    if source is None:
        source = find_fingerprint(header.fingerprint, header.synthesis)
    around = file_codec(read_config(source).architecture)
    if around is not None:
        return open_codec(around, checkpoint=source, device=device, dtype=dtype)
    return ModelCodec.from_pretrained(source, device=device, dtype=dtype)


def checked_options(codec: str, given: Mapping[str, Any], verb: str) -> Mapping[str, Any]:
    """Options as on the command line, as keyword arguments for a codec.

    Args:
        codec: its name. A zoo model has no options of its own: it hands them to its enhancers,
            which check them.
        given: names and values, perhaps still as text.
        verb: "compress" or "decompress".

    Raises:
        OptionError: an option that the file codec does not have, or a bad value.
    """
    codecs = registry("codecs")
    if codec not in codecs:
        return given
    return parse_options(given, codecs.entry(codec).details["options"], codec, verb)


def _find_weights(name: str, quality: float | None) -> Path:
    """The checkpoint folder of a zoo model."""
    _check_name(name)
    entries = [entry for entry in known() if entry.architecture == name and not entry.downloaded]
    if _is_variable(name):
        if entries:
            return entries[0].folder
        if not _is_stock(name):
            raise CheckpointError(
                f"no trained {name} is known here: pass --checkpoint, or train one with "
                f"`cgen train {name}`"
            )
        return _stock_weights(name, 0)
    wanted = DEFAULT_QUALITY if quality is None else quality
    if not float(wanted).is_integer():  # nor NaN or infinite
        raise OptionError(f"quality {wanted:g}: {name} has integer qualities only")
    for entry in entries:
        if entry.quality == wanted:
            return entry.folder
    return _stock_weights(name, int(wanted))


def _stock_weights(name: str, quality: int) -> Path:
    """CompressAI's own weights, from torch's cache only: nothing is downloaded unasked."""
    url = _stock_url(name, quality)
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.exists():
        raise CheckpointError(
            f"the weights of {name} (quality {quality}) are not here: {file} is missing; fetch it "
            f'with  python -c "from compressai.zoo import image_models as m; '
            f"m['{name}']({quality}, pretrained=True)\""
        )
    return stock_checkpoint(name, quality)


def _stock_url(name: str, quality: int) -> str:
    from compressai.zoo import image, image_vbr

    if name in image_vbr.model_urls:
        return str(image_vbr.model_urls[name]["mse"])
    urls = image.model_urls.get(name, {}).get("mse", {})
    if not urls and not _is_stock(name):
        raise CheckpointError(
            f"no trained {name} is known here: pass --checkpoint (`cgen convert` and `cgen train` "
            "make one)"
        )
    if not urls:
        raise CheckpointError(f"CompressAI publishes no weights of {name}: pass --checkpoint")
    if quality not in urls:
        raise OptionError(
            f"quality {quality} is out of range: {name} has {min(urls)} to {max(urls)}"
        )
    return str(urls[quality])


def _is_variable(name: str) -> bool:
    from compressai.zoo import image_vbr

    models = registry("zoo_models")
    if name in models:
        return bool(models.entry(name).details["variable_rate"])
    return name in image_vbr.model_urls


def _is_stock(name: str) -> bool:
    return name not in registry("zoo_models")


def _check_name(name: str) -> None:
    from compressai_gen.checkpoints import architecture_names

    names = architecture_names()
    if name not in names:
        raise UnknownNameError("codec", name, {*names, *registry("codecs")})
