"""A file codec and an enhancer small enough to read, and the registries to put them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_models import PORTABLE, picture, small_model

from compressai_gen import hookspecs, plugins
from compressai_gen.bitstream import Header, codec_fingerprint, pack, unpack
from compressai_gen.codec import enhancers
from compressai_gen.entropy import export
from compressai_gen.images import from_tensor, to_tensor
from compressai_gen.options import Option
from compressai_gen.registry import Registry

DEFAULT = "cheng2020-anchor-vbr"
TAU = Option("tau", float, 1.0, "share of the codec's picture", 0, 1)


def exported(architecture: str, seed: int = 0) -> torch.nn.Module:
    """A small model with its fixed-point entropy path, where it has one."""
    model = small_model(architecture, seed)
    if architecture in PORTABLE:
        model.add_module("portable", export(model))
    return model


def pixels(height: int, width: int) -> np.ndarray:
    return (picture(height, width)[0].permute(1, 2, 0) * 255).round().byte().numpy()


def empty_registries(monkeypatch: pytest.MonkeyPatch) -> tuple[Registry, Registry]:
    """Registries of codecs and of enhancers with nothing in them, in the place of the real ones."""
    codecs = Registry("codecs", hookspecs.RegisterCodec.__call__)
    enhancers_ = Registry("enhancers", hookspecs.RegisterEnhancer.__call__)
    host = plugins.host()
    filled = {**host.registries, "codecs": codecs, "enhancers": enhancers_}
    monkeypatch.setattr(host, "registries", filled)
    return codecs, enhancers_


class MeanColour:
    """A file codec without weights: the picture's mean colour, times ``gain``."""

    name = "mean-colour"

    def __init__(self, checkpoint: Any = None, device: Any = "cpu", dtype: Any = None) -> None:
        self.arguments = (checkpoint, device, dtype)

    def compress(self, image: Any, *, quality: Any = None, gain: float = 1.0) -> bytes:
        x = to_tensor(image)
        colour = (x.mean((0, 2, 3)) * gain * 255).clamp(0, 255).byte()
        size = {"height": x.shape[2], "width": x.shape[3]}
        header = Header(codec_fingerprint(self.name), b"\0\0", symbols_crc=0, **size)
        return pack(header, [bytes(colour.tolist())])

    def decompress(self, data: bytes, *, output_type: str = "pil", max_pixels: int = 2**26) -> Any:
        header, (colour,) = unpack(data, max_pixels)
        x = torch.tensor(list(colour)).div(255).view(1, 3, 1, 1)
        return from_tensor(x.expand(1, 3, header.height, header.width), output_type)


class Grey:
    """An enhancer that mixes the codec's picture with grey."""

    def enhance(self, decoded: enhancers.DecodedLatents, tau: float = 1.0) -> torch.Tensor:
        assert decoded.codec == DEFAULT
        return tau * decoded.synthesize().clamp(0, 1) + (1 - tau) * 0.5


def register_mean_colour(codecs: Registry) -> None:
    gain = Option("gain", float, 1.0, "brightness", 0, 2, verbs=("compress",))
    codecs.add("test", "mean-colour", "toys:MeanColour", options=(gain,))


def register_grey(enhancers_: Registry) -> None:
    preset = Option("preset", str, "fast", "not kept in files")
    enhancers_.add("test", "grey", "toys:Grey", codecs=(DEFAULT,), options=(TAU, preset))


def tensors_for_callback(verb: Any, given: Any, names: list[str]) -> list[str]:
    """The names of what ``callback_on_step_end`` gets in one step of a sampling pipeline."""
    seen: list[str] = []
    verb(
        given,
        num_inference_steps=1,
        callback_on_step_end=lambda _pipe, _step, _timestep, tensors: seen.extend(tensors),
        callback_on_step_end_tensor_inputs=names,
    )
    return seen
