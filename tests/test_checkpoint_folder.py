"""Checkpoint folders: what is written is what is read, from a folder or from the Hub's cache."""

from __future__ import annotations

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from hub_cache import write_hub_cache
from safetensors.torch import load_file
from small_checkpoints import NAME, WEIGHTS
from small_checkpoints import folder as folder
from small_checkpoints import model as model
from small_models import OURS, STOCK, picture, small_model

from compressai_gen.checkpoints import (
    compressai_state_dict,
    load_model,
    model_fingerprint,
    read_config,
    save_model,
)
from compressai_gen.errors import CheckpointError, OptionError


class TestRoundTrip:
    def test_strings_are_bit_identical(self, model, folder):
        x = picture()
        assert load_model(folder).compress(x) == model.compress(x)

    def test_tensors_keep_compressais_names_and_types(self, model, folder):
        stored = load_file(folder / WEIGHTS)
        assert stored.keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert stored[name].dtype == tensor.dtype
            assert torch.equal(stored[name], tensor)

    def test_half_precision_decodes_the_same_latents(self, tmp_path):
        name = "cheng2020-anchor-vbr"
        model = small_model(name)
        model.entropy_path()
        full, half = (
            save_model(
                model, tmp_path / f"{half}", architecture=name, arguments=OURS[name], half=half
            )
            for half in (False, True)
        )
        sizes = [(folder / WEIGHTS).stat().st_size for folder in (full, half)]
        assert sizes[1] < 0.75 * sizes[0]
        loaded = load_model(half)
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        assert model_fingerprint(loaded) == model_fingerprint(model)
        out = model.compress(picture(), 5.0)
        strings, shape = out["strings"][0], out["shape"]
        ours = model.portable.decode(strings, shape, 5.0)[0]
        theirs = loaded.portable.decode(strings, shape, 5.0)[0]
        assert torch.equal(ours.y_hat, theirs.y_hat)

    def test_half_precision_needs_an_export(self, tmp_path):
        with pytest.raises(OptionError, match="not exported"):
            save_model(
                small_model("mbt2018"),
                tmp_path / "x",
                architecture="mbt2018",
                arguments=STOCK["mbt2018"],
                half=True,
            )

    def test_stock_class_reads_the_weights(self, model, folder):
        stock = MeanScaleHyperprior.from_state_dict(load_file(folder / WEIGHTS)).eval()
        assert stock.compress(picture()) == model.compress(picture())
        again = MeanScaleHyperprior.from_state_dict(compressai_state_dict(folder)).eval()
        assert again.compress(picture()) == model.compress(picture())

    def test_tables_are_stored_not_rebuilt(self, folder, monkeypatch):
        def rebuild(*args, **kwargs):
            raise AssertionError("tables must come from the file")

        monkeypatch.setattr(MeanScaleHyperprior, "update", rebuild)
        load_model(folder)

    def test_safetensors_file_names_its_folder(self, model, folder):
        assert load_model(folder / WEIGHTS).compress(picture()) == model.compress(picture())

    def test_pytorch_model_hub_mixin_file_name(self, model, folder):
        (folder / WEIGHTS).rename(folder / "model.safetensors")
        assert load_model(folder).compress(picture()) == model.compress(picture())

    def test_folder_of_a_pipeline(self, model, folder, tmp_path):
        (tmp_path / "model_index.json").write_text("{}")
        assert load_model(tmp_path).compress(picture()) == model.compress(picture())

    def test_is_in_evaluation_mode_and_float32(self, folder):
        loaded = load_model(folder)
        assert not loaded.training
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}

    def test_config_is_what_was_given(self, model, tmp_path):
        save_model(
            model,
            tmp_path / "q3",
            architecture=NAME,
            arguments=STOCK[NAME],
            quality=3,
            metric="ms-ssim",
        )
        config = read_config(tmp_path / "q3")
        assert (config.architecture, config.arguments) == (NAME, STOCK[NAME])
        assert (config.quality, config.metric) == (3, "ms-ssim")
        assert config.fingerprint == model_fingerprint(model).hex()


class TestHub:
    def test_repo_id_from_the_cache_offline(self, model, folder, tmp_path, monkeypatch):
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for source in ("org/codec", "org/codec@main"):
            assert load_model(source).compress(picture()) == model.compress(picture())

    def test_unknown_repo_id_offline(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError, match="no folder org/none here"):
            load_model("org/none")


class TestFingerprint:
    def test_depends_on_every_weight(self):
        model = small_model(NAME)
        before = model_fingerprint(model)
        assert model_fingerprint(small_model(NAME)) == before
        with torch.no_grad():
            model.h_s[0].weight[0, 0, 0, 0] += 1e-6
        assert model_fingerprint(model) != before
