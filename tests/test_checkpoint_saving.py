"""Writing a checkpoint folder: all or nothing, never over somebody else's files, with a card."""

from __future__ import annotations

import os

import pytest
from small_checkpoints import NAME
from small_checkpoints import folder as folder
from small_checkpoints import model as model
from small_models import STOCK, picture, small_model

from compressai_gen import checkpoints
from compressai_gen.checkpoints import build_model, load_model, save_model
from compressai_gen.errors import CheckpointError


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

    def test_an_interruption_between_the_renames_keeps_the_old(self, folder, model, monkeypatch):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        rename = os.rename

        def interrupted(source, target):
            if target == folder and not str(source).endswith("-old"):
                raise KeyboardInterrupt
            rename(source, target)

        monkeypatch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
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
