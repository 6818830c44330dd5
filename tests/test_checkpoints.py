"""Checkpoint folders: round trip, every kind of damage, atomic writes, what is known where."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from compressai.zoo import image_models
from safetensors.torch import load_file, save_file
from small_models import ARCHITECTURES, OURS, STOCK, picture, small_model

from compressai_gen import checkpoints
from compressai_gen.checkpoints import (
    architecture_class,
    architecture_names,
    architecture_of,
    build_model,
    compressai_state_dict,
    constructor_arguments,
    find_fingerprint,
    known,
    load_model,
    model_fingerprint,
    read_config,
    save_model,
)
from compressai_gen.entropy import export
from compressai_gen.errors import (
    CheckpointError,
    OptionError,
    UnknownCheckpointError,
    UnknownNameError,
)
from compressai_gen.registry import Entry

NAME = "mbt2018-mean"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def model():
    return small_model(NAME)


@pytest.fixture
def folder(tmp_path, model):
    return save_model(model, tmp_path / "codec", architecture=NAME, arguments=STOCK[NAME])


def hub_cache(root: Path, repo_id: str, content: Path) -> Path:
    """A Hub cache that holds ``content`` as the only revision of ``repo_id``."""
    repo = root / f"models--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / ("a" * 40)
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    snapshot.parent.mkdir()
    content.rename(snapshot)
    return root


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
        cache = hub_cache(tmp_path / "hub", "org/codec", folder)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        for source in ("org/codec", "org/codec@main"):
            assert load_model(source).compress(picture()) == model.compress(picture())

    def test_unknown_repo_id_offline(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError, match="no folder org/none here"):
            load_model("org/none")


@pytest.mark.parametrize("architecture", OURS)
class TestZooFactory:
    """``compressai.zoo.image_models[name](checkpoint=...)`` of our models."""

    @pytest.fixture
    def model(self, architecture):
        model = small_model(architecture)
        model.add_module("portable", export(model))
        return model

    @pytest.fixture
    def folder(self, tmp_path, model, architecture):
        arguments = constructor_arguments(model)
        return save_model(model, tmp_path / "c", architecture=architecture, arguments=arguments)

    def test_folder_file_and_repo_id(self, model, folder, architecture, tmp_path, monkeypatch):
        factory = image_models[architecture]
        for source in (folder, str(folder), folder / WEIGHTS):
            assert factory(checkpoint=source).compress(picture()) == model.compress(picture())
        cache = hub_cache(tmp_path / "hub", "org/codec", folder)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        loaded = factory(checkpoint="org/codec")
        assert loaded.compress(picture()) == model.compress(picture())

    def test_eval_models_forced_update_changes_nothing(self, model, folder, architecture):
        loaded = image_models[architecture](checkpoint=folder)
        loaded.update(force=True)
        assert loaded.compress(picture()) == model.compress(picture())

    def test_another_architecture_is_refused(self, folder, architecture):
        other = next(name for name in reversed(OURS) if name != architecture)
        if issubclass(architecture_class(architecture), architecture_class(other)):
            pytest.skip("it is one of them")
        with pytest.raises(CheckpointError, match=f"not a {other}"):
            image_models[other](checkpoint=folder)


class TestArchitectures:
    def test_every_name_is_known(self):
        assert set(ARCHITECTURES) <= set(architecture_names())

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_arguments_and_name_are_read_off_the_model(self, name):
        model = build_model(name, ARCHITECTURES[name])
        arguments = constructor_arguments(model)
        assert arguments.items() >= ARCHITECTURES[name].items()
        again = build_model(name, arguments)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            assert one.shape == other.shape
        assert architecture_of(model) == name
        assert architecture_class(name) is type(model)

    def test_unknown_name_suggests_the_nearest(self):
        with pytest.raises(UnknownNameError, match="mbt2018-mean"):
            architecture_class("mbt2018-maen")

    def test_wrong_arguments_name_the_right_ones(self):
        with pytest.raises(CheckpointError, match="its arguments are N, M"):
            build_model(NAME, {"width": 3})

    def test_unregistered_class(self):
        class Mine(MeanScaleHyperprior):
            pass

        with pytest.raises(CheckpointError, match="register"):
            architecture_of(Mine(8, 8))

    def test_argument_that_is_not_kept(self):
        class Mine(MeanScaleHyperprior):
            def __init__(self, depth: object) -> None:
                super().__init__(8, 8)

        with pytest.raises(CheckpointError, match="'depth'"):
            constructor_arguments(Mine(1))


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


class TestSaving:
    def test_others_may_read_it_as_the_umask_says(self, folder, tmp_path):
        (tmp_path / "plain").write_text("")
        expected = (tmp_path / "plain").stat().st_mode
        assert {path.stat().st_mode for path in folder.iterdir()} == {expected}

    def test_interrupted_write_leaves_nothing(self, model, tmp_path, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoints.folder, "save_file", full)
        with pytest.raises(OSError, match="No space"):
            save_model(model, tmp_path / "new", architecture=NAME, arguments=STOCK[NAME])
        assert list(tmp_path.iterdir()) == []

    def test_interrupted_replacement_keeps_the_old(self, folder, model, monkeypatch):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoints.folder, "save_file", full)
        with pytest.raises(OSError, match="No space"):
            save_model(model, folder, architecture=NAME, arguments=STOCK[NAME])
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    def test_a_checkpoint_is_replaced_and_its_card_kept(self, folder):
        (folder / "README.md").write_text("mine")
        other = small_model(NAME, seed=1)
        save_model(other, folder, architecture=NAME, arguments=STOCK[NAME])
        assert load_model(folder).compress(picture()) == other.compress(picture())
        assert (folder / "README.md").read_text() == "mine"

    def test_a_folder_with_other_files_is_left_alone(self, folder, model):
        (folder / "notes.txt").write_text("precious")
        with pytest.raises(CheckpointError, match=r"notes\.txt"):
            save_model(model, folder, architecture=NAME, arguments=STOCK[NAME])
        assert (folder / "notes.txt").read_text() == "precious"

    def test_somebody_elses_checkpoint_is_left_alone(self, folder, model):
        (folder / "config.json").write_text('{"_class_name": "UNet2DModel"}')
        with pytest.raises(CheckpointError, match="names no architecture"):
            save_model(model, folder, architecture=NAME, arguments=STOCK[NAME])

    def test_an_empty_folder_is_filled(self, tmp_path, model):
        save_model(model, tmp_path, architecture=NAME, arguments=STOCK[NAME])
        assert load_model(tmp_path).compress(picture()) == model.compress(picture())

    def test_a_model_without_tables_is_refused(self, tmp_path):
        with pytest.raises(CheckpointError, match="update"):
            save_model(
                build_model(NAME, STOCK[NAME]),
                tmp_path / "x",
                architecture=NAME,
                arguments=STOCK[NAME],
            )

    def test_card_has_front_matter(self, folder):
        card = (folder / "README.md").read_text()
        assert card.startswith("---\n")
        front = card.split("---\n")[1]
        assert "library_name: diffusers" in front
        assert "pipeline_tag: image-to-image" in front
        for tag in ("compressai", "image-compression"):
            assert f"- {tag}\n" in front

    def test_card_is_valid_for_the_hub(self, folder):
        from huggingface_hub import ModelCard

        card = ModelCard.load(folder / "README.md")
        assert card.data.library_name == "diffusers"
        assert NAME in card.data.tags


class TestKnown:
    @pytest.fixture(autouse=True)
    def places(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("COMPRESSAI_GEN_CHECKPOINTS", raising=False)

    @pytest.mark.parametrize("depth", ["folder", "parent"])
    def test_environment_variable(self, folder, model, monkeypatch, depth):
        place = folder if depth == "folder" else folder.parent
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", f"/nowhere:{place}")
        assert find_fingerprint(model_fingerprint(model)) == folder

    def test_cache(self, model, tmp_path):
        folder = save_model(
            model, tmp_path / "cache" / "x", architecture=NAME, arguments=STOCK[NAME]
        )
        entry = next(entry for entry in known() if entry.folder == folder)
        assert (entry.architecture, entry.metric, entry.embedded) == (NAME, "mse", False)
        assert entry.fingerprint == model_fingerprint(model)

    def test_unknown_fingerprint_says_what_to_do(self):
        with pytest.raises(UnknownCheckpointError, match=r"0102030405ff.*--checkpoint"):
            find_fingerprint(bytes.fromhex("0102030405ff"))

    def test_a_damaged_neighbour_is_skipped(self, folder, model, monkeypatch):
        (folder.parent / "a-broken-one").mkdir()
        (folder.parent / "a-broken-one" / "config.json").write_text("{")
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(folder.parent))
        assert find_fingerprint(model_fingerprint(model)) == folder

    @pytest.fixture
    def plugin(self, folder, monkeypatch):
        """A registry with one zoo model, whose package holds ``folder``."""
        package = folder.parent / "embedding_package"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
        folder.rename(package / "checkpoint")
        monkeypatch.syspath_prepend(folder.parent)

        def register(target):
            entry = Entry("mine", "m:factory", "plugin", {"checkpoint": target})
            models = SimpleNamespace(names=lambda: ["mine"], entry=lambda name: entry)
            monkeypatch.setattr("compressai_gen.plugins.registry", lambda kind: models)
            return package / "checkpoint"

        return register

    def test_embedded_in_a_plugin(self, plugin, model):
        folder = plugin("embedding_package:checkpoint")
        (entry,) = known()
        assert (entry.folder, entry.embedded) == (folder, True)
        assert find_fingerprint(model_fingerprint(model)) == folder

    def test_older_embedded_ones_are_found_after_the_current_one(self, plugin):
        folder = plugin("embedding_package:checkpoint")
        old = save_model(
            small_model(NAME, seed=1), folder / "v1", architecture=NAME, arguments=STOCK[NAME]
        )
        assert [entry.folder for entry in known()] == [folder, old]

    def test_a_plugin_that_names_a_missing_package(self, plugin):
        plugin("no_such_package:checkpoint")
        with pytest.warns(UserWarning, match="no_such_package"):
            assert known() == []

    def test_needs_no_torch(self):
        code = (
            "import sys; from compressai_gen.checkpoints import known, read_config; known(); "
            "assert not {'torch', 'compressai', 'diffusers'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestFingerprint:
    def test_depends_on_every_weight(self):
        model = small_model(NAME)
        before = model_fingerprint(model)
        assert model_fingerprint(small_model(NAME)) == before
        with torch.no_grad():
            model.h_s[0].weight[0, 0, 0, 0] += 1e-6
        assert model_fingerprint(model) != before
