"""`ModelCodec`: every architecture, any size, a file of one's own, wrong files."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_codec import codec as codec
from small_codec import image as image
from small_models import ARCHITECTURES, PORTABLE
from toys import DEFAULT, exported, pixels

from compressai_gen.bitstream import pack, unpack
from compressai_gen.codec.coders import split
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import CheckpointError, CorruptedFileError, OptionError, SizeLimitError
from compressai_gen.notes import NonPortableWarning, SynthesisWarning

CODABLE = sorted(set(ARCHITECTURES) - {"bmshj2018-factorized", "bmshj2018-factorized-relu"})


# -- coding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODABLE)
def test_every_architecture_codes_a_picture(name: str, image: np.ndarray):
    codec = ModelCodec(exported(name), name)
    portable = name in PORTABLE
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NonPortableWarning)
        data = codec.compress(image)
    assert [w.category for w in caught if w.category is NonPortableWarning] == (
        [] if portable else [NonPortableWarning]
    )
    header, chunks = unpack(data)
    assert header.portable == portable
    assert (header.height, header.width) == (70, 90)
    decoded = codec.decompress(data, output_type="pt")
    assert decoded.shape == (3, 70, 90)
    x = torch.nn.functional.pad(
        torch.from_numpy(image).permute(2, 0, 1)[None] / 255, (0, 38, 0, 58), mode="replicate"
    )
    if not portable and not name.endswith("-vbr"):  # the model's own verbs are the reference
        with torch.no_grad():
            coded = codec.model.compress(x)
            expected = codec.model.decompress(coded["strings"], coded["shape"])["x_hat"]
        assert torch.equal(decoded, expected[0, :, :70, :90])
        assert chunks[1:] == [part[0] for part in coded["strings"]]


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (63, 64), (64, 64), (65, 129)])
def test_any_size(codec: ModelCodec, size: tuple[int, int]):
    original = pixels(*size)
    decoded = codec.decompress(codec.compress(original), output_type="np")
    assert decoded.shape == original.shape
    assert codec.decompress(codec.compress(Image.fromarray(original))).size == size[::-1]


def test_a_file_is_a_function_of_picture_and_quality(codec: ModelCodec, image: np.ndarray):
    assert codec.compress(image) == codec.compress(image, quality=codec.quality)
    encode = codec.encoder(image)
    assert [encode(q) for q in (0, 2.5, 9)] == [
        codec.compress(image, quality=q) for q in (0, 2.5, 9)
    ]
    sizes = [len(encode(q)) for q in range(10)]
    assert sizes == sorted(sizes)


def test_overhead_and_symbols(codec: ModelCodec, image: np.ndarray):
    data = codec.compress(image, quality=9)
    header, chunks = unpack(data)
    assert len(data) == 31 + len(chunks[0])
    latents = codec.decode_latents(data)
    assert latents.y_hat.shape == (1, 16, 8, 8)
    assert latents.y_hat.abs().max() > 1
    assert latents.quality == 9
    wrong = pack(replace(header, symbols_crc=header.symbols_crc ^ 1), chunks)
    with pytest.raises(CorruptedFileError, match="symbols"):
        codec.decompress(wrong)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_the_dtype_of_the_synthesis_changes_no_latent(image: np.ndarray, codec, dtype):
    half = ModelCodec(exported(DEFAULT), DEFAULT, dtype=dtype)
    assert half.fingerprint == codec.fingerprint
    data = codec.compress(image)
    assert half.compress(image) == data
    assert torch.equal(half.decode_latents(data).y_hat, codec.decode_latents(data).y_hat)
    difference = half.decompress(data, output_type="pt") - codec.decompress(data, output_type="pt")
    assert 0 < difference.abs().max() < 0.1


def test_long_strings_are_split():
    assert split(b"") == [b""]
    assert [len(part) for part in split(bytes(2**23 + 5))] == [2**23 - 1, 6]


@pytest.mark.parametrize("quality", [-0.1, 9.1, float("nan"), float("inf")])
def test_quality_out_of_range(codec: ModelCodec, image: np.ndarray, quality: float):
    with pytest.raises(OptionError, match=r"from 0 .* to 9"):
        codec.compress(image, quality=quality)


def test_quality_of_a_single_rate_model(image: np.ndarray):
    codec = ModelCodec(exported("mbt2018-mean"), "mbt2018-mean", quality=3)
    assert unpack(codec.compress(image, quality=3))[0].quality == 3
    with pytest.raises(OptionError, match=r"one fixed rate \(3\)"):
        codec.compress(image, quality=4)


def test_arguments_that_cannot_be_used():
    model = exported(DEFAULT)
    with pytest.raises(OptionError, match="device 'gpu'"):
        ModelCodec(model, DEFAULT, device="gpu")
    with pytest.raises(OptionError, match="float32, bfloat16"):
        ModelCodec(model, DEFAULT, dtype="int8")
    with pytest.raises(OptionError, match="float32 only"):
        ModelCodec(exported("mbt2018"), "mbt2018", dtype="bfloat16")
    codec = ModelCodec(model, DEFAULT)
    data = codec.compress(pixels(8, 8))
    with pytest.raises(OptionError, match="np or pt"):
        codec.decompress(data, output_type="PIL")


# -- wrong files ----------------------------------------------------------------------------------


def test_file_of_another_checkpoint(codec: ModelCodec, image: np.ndarray):
    other = ModelCodec(exported(DEFAULT, seed=1), DEFAULT)
    with pytest.raises(CheckpointError, match=codec.fingerprint.hex()):
        other.decompress(codec.compress(image))


def test_another_synthesis_is_only_told(codec: ModelCodec, image: np.ndarray):
    model = exported(DEFAULT)
    with torch.no_grad():
        next(model.g_s.parameters()).mul_(1.01)
    finetuned = ModelCodec(model, DEFAULT)
    with pytest.warns(SynthesisWarning, match="picture may differ"):
        finetuned.decompress(codec.compress(image))


def test_an_impossible_header(codec: ModelCodec, image: np.ndarray):
    header, chunks = unpack(codec.compress(image))
    for wrong in (
        replace(header, quality=None),
        replace(header, quality=9.5),
        replace(header, portable=False),
        replace(header, height=2000),
    ):
        with pytest.raises(CorruptedFileError):
            codec.decompress(pack(wrong, chunks))
    with pytest.raises(SizeLimitError):
        codec.decompress(pack(header, chunks), max_pixels=100)


def test_damaged_strings_of_a_float_host_file(image: np.ndarray):
    codec = ModelCodec(exported("elic2022-official"), "elic2022-official")
    with pytest.warns(NonPortableWarning):
        header, chunks = unpack(codec.compress(image))
    assert chunks[0].startswith(b"{")
    for wrong in ([b"", *chunks[1:]], [b"{", *chunks[1:]], chunks[:-1], [*chunks, b""]):
        with pytest.raises(CorruptedFileError):
            codec.decompress(pack(header, wrong))
