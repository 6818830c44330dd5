"""`ModelCodec` and how codecs are found: every architecture, any size, wrong files, enhancers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import ARCHITECTURES, PORTABLE, small_model
from toys import (
    DEFAULT,
    MeanColour,
    empty_registries,
    exported,
    pixels,
    register_grey,
    register_mean_colour,
)

from compressai_gen.bitstream import pack, unpack
from compressai_gen.checkpoints import save_model
from compressai_gen.codec import codec_for, open_codec, rate_control
from compressai_gen.codec.coders import split
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import (
    CheckpointError,
    CorruptedFileError,
    OptionError,
    SizeLimitError,
    UnknownCheckpointError,
    UnknownNameError,
)
from compressai_gen.notes import NonPortableWarning, SynthesisWarning

CODABLE = sorted(set(ARCHITECTURES) - {"bmshj2018-factorized", "bmshj2018-factorized-relu"})


@pytest.fixture(scope="module")
def codec() -> ModelCodec:
    return ModelCodec(exported(DEFAULT), DEFAULT)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return pixels(70, 90)


@pytest.fixture
def checkpoint(codec: ModelCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The codec's checkpoint, in the list of known ones and nowhere else."""
    folder = tmp_path / "known" / "tiny"
    save_model(codec.model, folder, architecture=DEFAULT, arguments=ARCHITECTURES[DEFAULT])
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(folder.parent))
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "cache"))
    return folder


# -- coding -------------------------------------------------------------------------------------


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


# -- wrong files --------------------------------------------------------------------------------


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


# -- finding codecs -----------------------------------------------------------------------------


def test_a_file_finds_its_checkpoint(codec: ModelCodec, checkpoint: Path, image: np.ndarray):
    data = codec.compress(image, quality=7)
    found = codec_for(data)
    assert isinstance(found, ModelCodec)
    assert found.name == DEFAULT
    assert np.array_equal(found.decompress(data), codec.decompress(data))
    assert np.array_equal(
        codec_for(data, checkpoint=checkpoint).decompress(data), found.decompress(data)
    )


def test_a_file_without_its_checkpoint(codec, image, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", "")
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path))
    with pytest.raises(UnknownCheckpointError, match="--checkpoint"):
        codec_for(codec.compress(image))


def test_open_by_checkpoint(checkpoint: Path, codec: ModelCodec):
    opened = open_codec(checkpoint=checkpoint, quality=1.5)
    assert isinstance(opened, ModelCodec)
    assert (opened.name, opened.quality, opened.fingerprint) == (DEFAULT, 1.5, codec.fingerprint)
    with pytest.raises(CheckpointError, match="not a mbt2018-mean"):
        open_codec("mbt2018-mean", checkpoint=checkpoint)
    with pytest.raises(OptionError, match="out of range"):
        open_codec(checkpoint=checkpoint, quality=20)


def test_a_single_rate_checkpoint_is_chosen_by_quality(checkpoint: Path):
    for quality in (2, 4):
        save_model(
            exported("mbt2018-mean", seed=quality),
            checkpoint.parent / f"q{quality}",
            architecture="mbt2018-mean",
            arguments=ARCHITECTURES["mbt2018-mean"],
            quality=quality,
        )
    assert open_codec("mbt2018-mean", quality=2).quality == 2
    assert open_codec("mbt2018-mean").quality == 4


def test_unknown_names_and_missing_weights(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnknownNameError, match="did you mean cheng2020-anchor-vbr"):
        open_codec("cheng2020-ancor-vbr")
    with pytest.raises(CheckpointError, match="cgen train mbt2018-mean-gain-vbr"):
        open_codec("mbt2018-mean-gain-vbr")
    with pytest.raises(CheckpointError, match=r"mbt2018-mean-4-\w+\.pth\.tar is missing; fetch it"):
        open_codec("mbt2018-mean", quality=4)
    with pytest.raises(CheckpointError, match=r"mbt2018-mean-mse-vbr-45d095e9"):
        open_codec("mbt2018-mean-vbr")
    with pytest.raises(OptionError, match="1 to 8"):
        open_codec("mbt2018-mean", quality=9)
    with pytest.raises(OptionError, match="integer"):
        open_codec("mbt2018-mean", quality=2.5)
    with pytest.raises(CheckpointError, match="publishes no weights"):
        open_codec("elic2022-official")


def test_stock_weights_in_the_torch_cache_are_exported_once(checkpoint, tmp_path, monkeypatch):
    from compressai.zoo import image as zoo

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = (
        tmp_path / "hub" / "checkpoints" / zoo.model_urls["mbt2018-mean"]["mse"][1].split("/")[-1]
    )
    weights.parent.mkdir(parents=True)
    torch.save(small_model("mbt2018-mean").state_dict(), weights)
    data = open_codec("mbt2018-mean", quality=1).compress(pixels(20, 20))
    weights.unlink()
    decoder = codec_for(data)
    assert decoder.name == "mbt2018-mean"
    assert decoder.decompress(data).size == (20, 20)
    assert open_codec("mbt2018-mean", quality=1).compress(pixels(20, 20)) == data


def test_a_plugins_file_codec(monkeypatch: pytest.MonkeyPatch):
    codecs, _ = empty_registries(monkeypatch)
    register_mean_colour(codecs)
    opened = open_codec("mean-colour", device="cuda")
    assert isinstance(opened, MeanColour)
    assert opened.arguments == (None, "cuda", None)
    data = opened.compress(pixels(5, 4))
    assert codec_for(data).decompress(data).size == (4, 5)


# -- enhancers ----------------------------------------------------------------------------------


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
    with pytest.raises(OptionError, match="no enhancer"):
        codec.decompress(pack(header, chunks), tau=0.5)


# -- rate control -------------------------------------------------------------------------------


def test_bits_per_pixel(codec: ModelCodec, image: np.ndarray):
    encode, area = codec.encoder(image), 70 * 90
    smallest, largest = (8 * len(encode(q)) / area for q in codec.quality_range)
    wanted = (smallest + largest) / 2
    reached = rate_control.reach_bpp(encode, codec.quality_range, area, wanted)
    assert reached.note is None
    assert 0.97 * wanted < reached.bpp <= wanted
    assert reached.data == encode(reached.quality)
    above = rate_control.reach_bpp(encode, codec.quality_range, area, 2 * largest)
    assert above.quality == 9
    assert "above the codec's range" in above.note
    with pytest.raises(OptionError, match="smallest file"):
        rate_control.reach_bpp(encode, codec.quality_range, area, smallest / 2)
    with pytest.raises(OptionError, match="above 0"):
        rate_control.reach_bpp(encode, codec.quality_range, area, -1)


def test_decibels():
    """On a codec whose PSNR is exactly 30 + 2 quality (random networks have no such order)."""
    original = np.full((10, 10, 3), 100, np.uint8)

    def decompress(data: bytes) -> np.ndarray:
        return original + 255 * 10 ** (-(30 + 2 * len(data) / 256) / 20)

    def compress(quality: float) -> bytes:
        return bytes(round(256 * quality))

    def reach(psnr: float) -> rate_control.Reached:
        return rate_control.reach_psnr(compress, decompress, (0, 9), original, psnr)

    assert reach(35).quality == 2.5
    assert reach(35).psnr == pytest.approx(35, abs=1e-4)
    assert reach(20).quality == 0
    assert "below the codec's range" in reach(20).note
    with pytest.raises(OptionError, match=r"48\.00 dB"):
        reach(60)
