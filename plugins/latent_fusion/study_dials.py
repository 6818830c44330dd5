"""What a study compares: fusion modules, each with the codec whose files it works on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compressai_gen.codec import ModelCodec, open_codec
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen_plugins.latent_fusion.enhancer import load_module, module_folder
from diffusers_codec.models.latent_fusion import LatentFusionModel

STEPS = 10  # the paper's
OWN = "fusion"  # name of the module under study, beside the variants'


@dataclass(frozen=True)
class Dial:
    """One fusion module.

    Attributes:
        name: in tables and legends.
        codec: reads the files; not the one that wrote them where a variant has its own synthesis.
        fusion: D.
        steps: of its curve over tau.
        folder: of D.
    """

    name: str
    codec: ModelCodec
    fusion: LatentFusionModel
    steps: int
    folder: Path


def open_base(
    name: str | None, checkpoint: str | None, quality: float | None, device: str
) -> ModelCodec:
    """The codec that writes the files of a study; the arguments are those of `open_codec`.

    Raises:
        OptionError: for a quality out of range, or a file codec, which has no latent.
        CheckpointError, UnknownNameError: if there is no such codec.
    """
    codec = open_codec(name, checkpoint=checkpoint, quality=quality, device=device)
    if not isinstance(codec, ModelCodec):
        raise OptionError(f"{name} is not a CompressAI model: it has no latent to work on")
    return codec


def open_dial(codec: ModelCodec, folder: Path | None, name: str = OWN) -> Dial:
    """A fusion module for the files of ``codec``, tried on a blank picture.

    Args:
        codec: writes the files.
        folder: of D, or of the run that trained it: then the run's recipe tells whether it takes
            one step (Variant-1), and a codec in it reads the files (Variant-2). None for the module
            that ships with the package.
        name: of the dial.

    Raises:
        OptionError: not a folder.
        CheckpointError: no fusion module in it, one of another base, or NaNs; none ships for
            ``codec``.
    """
    steps = STEPS
    if folder is not None:
        if not folder.is_dir():
            raise OptionError(f"{folder} is not a folder: give a fusion module's or a run's")
        codec, steps, folder = _reader(codec, folder), _steps(folder), _module(folder)
    probe = codec.decode_latents(codec.compress(Image.new("RGB", (64, 64))))
    found = module_folder(probe, None if folder is None else str(folder))
    fusion = load_module(found, codec.device)
    fusion.check_base(codec.fingerprint, codec.synthesis, probe.y_hat.shape[1])
    return Dial(name, codec, fusion, steps, found)


def parse_variants(given: Sequence[str]) -> dict[str, Path]:
    """``NAME=FOLDER`` texts as names and folders.

    Raises:
        OptionError: not of that form, or a name that is taken.
    """
    variants: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise OptionError(f"--variant {text}: give NAME=FOLDER")
        if name == OWN or name in variants:
            raise OptionError(f"--variant {text}: the name {name} is taken, choose another")
        variants[name] = Path(folder)
    return variants


def _reader(codec: ModelCodec, folder: Path) -> ModelCodec:
    own = folder / "codec"
    if not own.is_dir():
        return codec
    reader = ModelCodec.from_pretrained(own, device=codec.device)
    if reader.fingerprint != codec.fingerprint:
        raise CheckpointError(
            f"{own} reads files of {reader.fingerprint.hex()}, the codec writes "
            f"{codec.fingerprint.hex()}: give a variant of the same codec"
        )
    return reader


def _steps(folder: Path) -> int:
    recipe = folder / "recipe.json"
    if not recipe.is_file():
        return STEPS
    return STEPS if json.loads(recipe.read_text()).get("diffusion", True) else 1


def _module(folder: Path) -> Path:
    trained = folder / "checkpoint"
    return trained if trained.is_dir() else folder
