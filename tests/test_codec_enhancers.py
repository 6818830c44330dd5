"""Enhancers: another plugin's way from a stock codec's latents to pixels, and a sender's wish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_codec import codec as codec
from small_codec import image as image
from toys import empty_registries, register_grey

from compressai_gen.bitstream import pack, unpack
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import OptionError
from compressai_gen.notes import SynthesisWarning


@pytest.fixture
def enhancer(monkeypatch: pytest.MonkeyPatch) -> None:
    register_grey(empty_registries(monkeypatch)[1])


@pytest.mark.usefixtures("enhancer")
def test_an_enhancer_makes_the_picture(codec: ModelCodec, image: np.ndarray):
    data = codec.compress(image)
    plain = codec.decompress(data, output_type="pt")
    assert torch.equal(codec.decompress(data, output_type="pt", tau=1), plain)
    assert torch.equal(codec.decompress(data, output_type="pt", tau="0"), plain * 0 + 0.5)
    with pytest.raises(OptionError, match=r"--tau 2 is not in 0\.\.1"):
        codec.decompress(data, tau=2)
    with pytest.raises(OptionError, match=r"no option --steps.*grey: --tau"):
        codec.decompress(data, steps=3)


@pytest.mark.usefixtures("enhancer")
def test_the_senders_wish_is_followed_unless_overruled(codec: ModelCodec, image: np.ndarray):
    data = codec.compress(image, tau=0)
    assert unpack(data)[0].tau == 0
    assert len(data) == len(codec.compress(image)) + 1
    assert codec.decompress(data, output_type="pt").unique().tolist() == [0.5]
    assert len(codec.decompress(data, output_type="pt", tau=1).unique()) > 10
    with pytest.raises(OptionError, match="cannot be kept"):
        codec.compress(image, preset="slow")


def test_a_wish_nobody_can_follow_is_told(codec, image, monkeypatch):
    empty_registries(monkeypatch)
    header, chunks = unpack(codec.compress(image))
    with pytest.warns(SynthesisWarning, match="wish \\(tau\\) is not followed"):
        codec.decompress(pack(replace(header, tau=0.5), chunks))
    assert codec.enhanced is None
    with pytest.raises(OptionError, match="no enhancer"):
        codec.decompress(pack(header, chunks), tau=0.5)
