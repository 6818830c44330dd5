"""Every kind of damage to a checkpoint folder is told by what is wrong and what to do."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import WEIGHTS
from small_checkpoints import folder as folder
from small_checkpoints import model as model

from compressai_gen.checkpoints import load_model
from compressai_gen.errors import CheckpointError, UnknownNameError


class TestDamage:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            load_model(tmp_path / "none")

    def test_missing_config(self, folder):
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"has no config\.json"):
            load_model(folder)

    def test_config_of_something_else(self, folder):
        (folder / "config.json").write_text('{"_class_name": "UNet2DModel"}')
        with pytest.raises(CheckpointError, match="names no architecture"):
            load_model(folder)

    def test_config_is_not_json(self, folder):
        (folder / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match="JSON"):
            load_model(folder)

    def test_missing_weights(self, folder):
        (folder / WEIGHTS).unlink()
        with pytest.raises(CheckpointError, match="no weights"):
            load_model(folder)

    @pytest.mark.parametrize("size", [0, 5, 200, 5000])
    def test_truncated_weights(self, folder, size):
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(folder)

    def test_flipped_weight(self, folder):
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[-5] ^= 1
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(CheckpointError, match="do not belong together"):
            load_model(folder)

    def test_other_shape(self, folder):
        config = json.loads((folder / "config.json").read_text())
        config["arguments"]["N"] = 8
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=r"do not fit the architecture.*size mismatch"):
            load_model(folder)

    def test_missing_tensor(self, folder):
        tensors = load_file(folder / WEIGHTS)
        del tensors["g_a.0.bias"]
        save_file(tensors, folder / WEIGHTS)
        with pytest.raises(CheckpointError, match=r"g_a\.0\.bias"):
            load_model(folder)

    def test_unknown_architecture(self, folder):
        config = json.loads((folder / "config.json").read_text())
        config["architecture"] = "mbt2018-maen"
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(UnknownNameError, match="mbt2018-mean"):
            load_model(folder)

    def test_pickle_is_refused_and_the_way_out_named(self, tmp_path, model):
        torch.save(model.state_dict(), tmp_path / "net.pth.tar")
        for source in (tmp_path / "net.pth.tar", tmp_path):
            with pytest.raises(CheckpointError, match=r"cgen convert compressai net\.pth\.tar"):
                load_model(source)

    def test_pickle_is_never_executed(self, folder):
        class Bomb:
            def __reduce__(self):
                return (pytest.fail, ("executed",))

        (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(folder)

    def test_malformed_fingerprint(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"fingerprint": "zz"}))
        with pytest.raises(CheckpointError, match="12 hexadecimal digits"):
            load_model(folder)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("architecture", 5),
            ("architecture", ["mbt2018-mean"]),
            ("arguments", 5),
            ("arguments", None),
            ("portable", [1]),
            ("quality", "best"),
            ("metric", 5),
        ],
    )
    def test_values_of_another_kind(self, folder, name, value):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(CheckpointError, match=rf"config\.json: {name} .* is not an? "):
            load_model(folder)
