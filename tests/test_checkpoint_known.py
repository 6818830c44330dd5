"""Which checkpoints are known on a machine, where, and which one a fingerprint names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hub_cache import COMMIT, write_hub_cache
from small_checkpoints import NAME, WEIGHTS
from small_checkpoints import folder as folder
from small_checkpoints import model as model
from small_models import ARCHITECTURES, STOCK, small_model
from toys import DEFAULT, exported

from compressai_gen.checkpoints import (
    find_fingerprint,
    known,
    load_model,
    model_fingerprint,
    read_config,
    save_model,
)
from compressai_gen.checkpoints.fingerprint import synthesis_hash
from compressai_gen.errors import CheckpointError, UnknownCheckpointError
from compressai_gen.registry import Entry


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMPRESSAI_GEN_CHECKPOINTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


class TestKnown:
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

    def test_an_unfinished_one_does_not_hide_a_complete_one(self, folder, model, monkeypatch):
        unfinished = folder.parent / "a"
        unfinished.mkdir()
        (unfinished / "config.json").write_text((folder / "config.json").read_text())
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", f"{unfinished}:{folder.parent}")
        assert find_fingerprint(model_fingerprint(model)) == folder
        assert [entry.folder for entry in known() if not entry.embedded] == [folder]

    @pytest.mark.parametrize("depth", ["pipeline", "parent"])
    def test_a_saved_pipeline(self, folder, model, monkeypatch, depth):
        place = folder.parent / "places"
        component = place / "pipeline" / "codec"
        component.parent.mkdir(parents=True)
        (component.parent / "model_index.json").write_text("{}")
        folder.rename(component)
        listed = component.parent if depth == "pipeline" else place
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(listed))
        assert find_fingerprint(model_fingerprint(model)) == component
        assert [entry.folder for entry in known() if not entry.embedded] == [component]

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


class TestOneFingerprint:
    """A model, and one fine-tuned from it behind a frozen encoder and bottleneck."""

    @pytest.fixture
    def alike(self, tmp_path, monkeypatch):
        """Folders of both, the first model's first."""
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(tmp_path / "alike"))
        model, options = exported(DEFAULT), {"arguments": ARCHITECTURES[DEFAULT]}
        folders = [tmp_path / "alike" / name for name in ("a", "b-tuned")]
        for half, place in enumerate(folders):
            save_model(model, place, architecture=DEFAULT, **options, half=bool(half))
            with torch.no_grad():
                next(model.g_s.parameters()).mul_(1.5)
        return folders

    def test_the_synthesis_tells_them_apart(self, alike):
        for place in alike:
            model = load_model(place)  # of the second one the rounded weights
            assert read_config(place).synthesis == synthesis_hash(model).hex()
            assert find_fingerprint(model_fingerprint(model), synthesis_hash(model)) == place

    def test_one_of_an_unknown_synthesis_before_one_of_another(self, alike):
        fingerprint = model_fingerprint(load_model(alike[0]))
        assert find_fingerprint(fingerprint, b"??") == find_fingerprint(fingerprint) == alike[0]
        content = json.loads((alike[1] / "config.json").read_text())
        del content["synthesis"]  # as older folders have none
        (alike[1] / "config.json").write_text(json.dumps(content))
        assert model_fingerprint(load_model(alike[1])) == fingerprint
        assert find_fingerprint(fingerprint, b"??") == alike[1]

    @pytest.mark.parametrize("damage", ["2b2", 5])
    def test_a_damaged_one_is_refused(self, alike, damage):
        content = json.loads((alike[0] / "config.json").read_text())
        (alike[0] / "config.json").write_text(json.dumps({**content, "synthesis": damage}))
        with pytest.raises(CheckpointError, match=f"synthesis {damage!r} is not 4 hexadecimal"):
            read_config(alike[0])


class TestHubCache:
    def test_a_model_is_found_by_its_fingerprint(self, folder, model, tmp_path):
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        found = find_fingerprint(model_fingerprint(model))
        assert found == cache / "models--org--codec" / "snapshots" / COMMIT
        (entry,) = (entry for entry in known() if entry.downloaded)
        assert (entry.folder, entry.architecture, entry.embedded) == (found, NAME, False)

    def test_a_component_of_a_pipeline(self, folder, model, tmp_path):
        (folder.parent / "pipeline").mkdir()
        folder.rename(folder.parent / "pipeline" / "codec")
        write_hub_cache(folder.parent / "pipeline", tmp_path, "org/pipeline")
        assert find_fingerprint(model_fingerprint(model)).name == "codec"

    def test_every_revision_is_searched(self, folder, model, tmp_path):
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        newer = cache / "models--org--codec" / "snapshots" / ("0" * 40)
        other = save_model(small_model(NAME, 1), newer, architecture=NAME, arguments=STOCK[NAME])
        (cache / "models--org--codec" / "refs" / "main").write_text(newer.name)
        assert find_fingerprint(model_fingerprint(model)).name == COMMIT
        assert find_fingerprint(model_fingerprint(small_model(NAME, 1))) == other

    def test_is_searched_last_and_only_if_needed(self, folder, model, tmp_path, monkeypatch):
        write_hub_cache(folder, tmp_path, "org/codec")
        monkeypatch.setenv("COMPRESSAI_GEN_CHECKPOINTS", str(folder))
        assert [entry.downloaded for entry in known()][-2:] == [False, True]
        module = sys.modules["compressai_gen.checkpoints.known"]
        monkeypatch.setattr(module, "_downloaded", lambda: pytest.fail("searched"))
        assert find_fingerprint(model_fingerprint(model)) == folder

    def test_foreign_and_broken_entries_are_ignored(self, folder, model, tmp_path):
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        for number, content in enumerate(
            ('{"architecture": "resnet50"}', '{"model_type": "bert"}', "[]", "{")
        ):
            snapshot = cache / f"models--a--foreign{number}" / "snapshots" / COMMIT
            snapshot.mkdir(parents=True)
            (snapshot / "config.json").write_text(content)
            (snapshot / "model.safetensors").touch()
        gone = cache / "models--a--gone" / "snapshots" / COMMIT
        gone.mkdir(parents=True)
        for name in ("config.json", "pytorch_model.bin"):
            (gone / name).symlink_to("../../blobs/deleted")
        (cache / "models--a--empty").mkdir()
        (cache / "models--a--file").touch()
        (cache / "models--a--odd").mkdir()
        (cache / "models--a--odd" / "snapshots").touch()
        half = write_hub_cache(folder, tmp_path, "a/half") / "models--a--half" / "snapshots"
        (half / COMMIT / WEIGHTS).unlink()
        assert find_fingerprint(model_fingerprint(model)).parents[1].name == "models--org--codec"
        assert len([entry for entry in known() if entry.downloaded]) == 1

    def test_the_place_is_the_one_huggingface_hub_reads(self, folder, model, tmp_path):
        write_hub_cache(folder, tmp_path / "home", "org/codec")
        code = (
            "from compressai_gen.checkpoints import find_fingerprint; "
            f"print(find_fingerprint(bytes.fromhex({model_fingerprint(model).hex()!r})).parents[2])"
        )
        clean = {k: v for k, v in os.environ.items() if not k.endswith("HUB_CACHE")}
        for variable, place in (("HF_HOME", "home"), ("HF_HUB_CACHE", "home/hub")):
            environment = {**clean, variable: str(tmp_path / place)}
            told = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True
            )
            assert told.stdout.strip() == str(tmp_path / "home" / "hub"), told.stderr
