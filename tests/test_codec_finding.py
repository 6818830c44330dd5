"""How a codec is found: by a file, a checkpoint, a name; and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hub_cache import write_hub_cache
from small_codec import codec as codec
from small_codec import image as image
from small_models import ARCHITECTURES, small_model
from toys import (
    DEFAULT,
    MeanColour,
    empty_registries,
    exported,
    pixels,
    register_mean_colour,
)

from compressai_gen.checkpoints import save_model
from compressai_gen.codec import codec_for, open_codec
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import (
    CheckpointError,
    OptionError,
    UnknownCheckpointError,
    UnknownNameError,
)


@pytest.fixture
def checkpoint(codec: ModelCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The codec's checkpoint, in the list of known ones and nowhere else."""
    folder = tmp_path / "known" / "tiny"
    save_model(codec.model, folder, architecture=DEFAULT, arguments=ARCHITECTURES[DEFAULT])
    monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(folder.parent))
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


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
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
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
    for quality in (2.5, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="integer"):
            open_codec("mbt2018-mean", quality=quality)
    with pytest.raises(CheckpointError, match="publishes no weights"):
        open_codec("elic2022-official")


def test_a_download_is_found_by_its_files_and_not_by_its_architecture(checkpoint, tmp_path):
    name = "mbt2018-mean-gain-vbr"
    model, folder = exported(name), tmp_path / "elsewhere"
    save_model(model, folder, architecture=name, arguments=ARCHITECTURES[name])
    write_hub_cache(folder, tmp_path, "org/tiny")
    data = ModelCodec(model, name).compress(pixels(8, 8))
    assert codec_for(data).decompress(data).size == (8, 8)
    with pytest.raises(CheckpointError, match=f"no trained {name} is known"):
        open_codec(name)


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
