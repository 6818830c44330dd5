"""A component on the Hub: what ``push_to_hub`` would upload."""

from __future__ import annotations

import json

import pytest
from small_components import NAME
from small_components import component as component


class TestPublishing:
    @pytest.fixture
    def uploads(self, monkeypatch):
        """Replaces the Hub; collects what would have been uploaded."""
        sent = {}

        class Api:
            def __init__(self, token=None):
                sent["token"] = token

            def create_repo(self, repo_id, **options):
                sent["private"] = options["private"]
                return type("Url", (), {"repo_id": repo_id})

            def file_exists(self, repo_id, name):
                return sent.get("has_card", False)

            def upload_folder(self, *, repo_id, folder_path, **options):
                sent["files"] = {path.name: path.read_bytes() for path in folder_path.iterdir()}
                sent.update(options, repo_id=repo_id)
                return f"https://example.org/{repo_id}"

        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        return sent

    def test_push_to_hub_writes_a_card(self, component, uploads):
        url = component.push_to_hub("org/codec", private=True, license="mit", token="secret")
        assert url == "https://example.org/org/codec"
        assert uploads["private"] is True
        assert uploads["token"] == "secret"
        card = uploads["files"]["README.md"].decode()
        assert "license: mit" in card
        assert 'load_model("org/codec")' in card
        assert {"config.json", "diffusion_pytorch_model.safetensors"} <= set(uploads["files"])
        assert json.loads(uploads["files"]["config.json"])["architecture"] == NAME

    def test_a_card_on_the_hub_is_kept(self, component, uploads):
        uploads["has_card"] = True
        component.push_to_hub("org/codec")
        assert "README.md" not in uploads["files"]

    def test_save_pretrained_with_push_to_hub(self, component, uploads, tmp_path):
        component.save_pretrained(tmp_path / "my-codec", push_to_hub=True, commit_message="first")
        assert uploads["repo_id"] == "my-codec"
        assert uploads["commit_message"] == "first"

    def test_subfolder_has_no_card(self, component, uploads):
        component.push_to_hub("org/codec", subfolder="codec")
        assert "README.md" not in uploads["files"]
        assert uploads["path_in_repo"] == "codec"
