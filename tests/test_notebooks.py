"""Every notebook runs from top to bottom, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    wanted = {"diffeic", "first_file", "latent_fusion", "write_a_plugin"}
    assert wanted <= {n.stem for n in NOTEBOOKS}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_notebook_runs(notebook, tmp_path):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert all(not c.get("outputs") for c in content.cells), "commit notebooks without outputs"
    client = NotebookClient(content, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
