"""A Hub cache as an earlier download would have left it, for tests without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

COMMIT = hashlib.sha1(b"compressai-gen").hexdigest()


def write_hub_cache(folder: Path, hf_home: Path, repository: str) -> Path:
    """Puts `folder` into the cache below `hf_home` (``HF_HOME``) as the model `repository`.

    Returns the cache (``HF_HUB_CACHE``).
    """
    cache = hf_home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = Path(shutil.copytree(folder, cache / "snapshots" / COMMIT))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    files = {
        file.relative_to(snapshot).as_posix(): {
            "size": file.stat().st_size,
            "blob_id": hashlib.sha1(file.read_bytes()).hexdigest(),
        }
        for file in snapshot.rglob("*")
        if file.is_file()
    }
    (cache / "trees").mkdir()
    tree = json.dumps({"format_version": 1, "files": files})
    (cache / "trees" / f"{COMMIT}.json").write_text(tree)
    return cache.parent
