"""Files written by older versions decode to the same symbols and latents, for ever."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from compressai_gen import codec_for
from compressai_gen.bitstream import pack, unpack
from compressai_gen.codec.geometry import STRIDE, padded
from compressai_gen.entropy import PortableEntropy
from compressai_gen_plugins.overfitted import kernels

GOLDEN = Path(__file__).parent / "golden"
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())


def stored_export(name: str) -> PortableEntropy:
    portable = PortableEntropy.from_config(json.loads((GOLDEN / f"{name}.json").read_text()))
    portable.load_state_dict(load_file(GOLDEN / f"{name}.safetensors"))
    return portable


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_golden_file(name: str, threads: int):
    expected = EXPECTED[name]
    data = (GOLDEN / name).read_bytes()
    header, chunks = unpack(data)
    portable = stored_export(expected["model"])
    assert header.fingerprint == portable.fingerprint() == bytes.fromhex(expected["fingerprint"])
    told = {key: getattr(header, key) for key in expected["header"]}
    assert told == {**expected["header"], **({"tau": 128 / 255} if header.tau else {})}
    shape = (padded(header.height) // STRIDE, padded(header.width) // STRIDE)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (decoded,) = portable.decode([b"".join(chunks)], shape, header.quality)
    finally:
        torch.set_num_threads(before)
    assert decoded.crc == header.symbols_crc == expected["symbols_crc"]
    assert zlib.crc32(decoded.y_hat.numpy().astype("<f4").tobytes()) == expected["y_hat_crc"]
    assert decoded.y_hat.unique().numel() > 10
    assert pack(header, chunks) == data


@pytest.mark.parametrize("compiler", ["numba", None])
@pytest.mark.parametrize(
    "name", ["nif", "cool-chic-v1", "cool-chic-v2", "cool-chic-v1-tails", "cool-chic-v2-tails"]
)
def test_golden_file_of_an_overfitted_codec(name: str, compiler: str | None, monkeypatch: Any):
    """Its integers by their checksum, its pixels up to one level."""
    if compiler is None:
        monkeypatch.setattr(kernels, "njit", None)
    else:
        pytest.importorskip(compiler)
    data = (GOLDEN / f"{name}.cgen").read_bytes()
    picture = codec_for(data).decompress(data, output_type="np").astype(int)
    with Image.open(GOLDEN / f"{name}.png") as expected:
        assert np.abs(picture - np.asarray(expected)).max() <= 1
    assert picture.std() > 30
