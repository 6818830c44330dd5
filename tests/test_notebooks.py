"""Every notebook runs from top to bottom, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from data import shared_data
from hub_cache import write_hub_cache
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    wanted = {"diffeic", "first_file", "latent_fusion", "write_a_plugin"}
    assert wanted <= {n.stem for n in NOTEBOOKS}


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """Offline, with TAESD in the Hub's cache where this machine has it."""
    home = tmp_path_factory.mktemp("hub")
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    photos = shared_data()
    if photos is not None and (photos / "weights" / "taesd").is_dir():
        write_hub_cache(photos / "weights" / "taesd", home, "madebyollin/taesd")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_notebook_runs(notebook, tmp_path):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert all(not c.get("outputs") for c in content.cells), "commit notebooks without outputs"
    client = NotebookClient(content, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
