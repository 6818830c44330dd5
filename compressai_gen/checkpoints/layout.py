"""What a checkpoint folder holds, and where a name leads: a folder, a file or a Hub repo id.

Nothing here imports torch: ``cgen info`` and the search for a fingerprint read only config.json.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compressai_gen.errors import CheckpointError

CLASS_NAME = "CompressionModelComponent"
CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
INDEX_NAME = WEIGHTS_NAME + ".index.json"
WEIGHTS_NAMES = (WEIGHTS_NAME, "model.safetensors")
"""Read in this order; the second is what ``PyTorchModelHubMixin`` writes."""

PICKLE_SUFFIXES = (".pth", ".tar", ".pt", ".ckpt", ".bin", ".pkl")
PIPELINE_COMPONENT = "codec"
"""A pipeline's folder holds the model's folder under the name of the component."""

_KINDS: dict[str, tuple[Any, str]] = {
    "architecture": (str, "a zoo name"),
    "arguments": (dict, "an object of keyword arguments"),
    "portable": (dict | None, "an object or null"),
    "quality": (float | int | None, "a number or null"),
    "metric": (str, "a name"),
}
_FINGERPRINT = re.compile(r"[0-9a-f]{12}")
_SYNTHESIS = re.compile(r"[0-9a-f]{4}")
_REPO_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class CheckpointConfig:
    """The content of config.json.

    Attributes:
        architecture: zoo name, for example "mbt2018-mean".
        arguments: keyword arguments of that architecture's constructor.
        portable: layout of the fixed-point entropy path, or None if the model has none.
        quality: the zoo quality a single-rate model was trained for, else None.
        metric: what it was trained for: "mse", "ms-ssim", ...
        fingerprint: 12 hexadecimal digits that files written with this model carry.
        synthesis: 4 more, which tell models of one fingerprint apart; older folders have none.
    """

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    portable: dict[str, Any] | None = None
    quality: int | None = None
    metric: str = "mse"
    fingerprint: str | None = None
    synthesis: str | None = None

    @classmethod
    def read(cls, folder: Path) -> CheckpointConfig:
        """Read ``folder/config.json``.

        Raises:
            CheckpointError: if it is missing, not JSON, or not ours.
        """
        path = folder / CONFIG_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(
                f"{folder} has no {CONFIG_NAME}: {_instead_of_config(folder)}"
            ) from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(content, dict) or "architecture" not in content:
            raise CheckpointError(
                f"{path} names no architecture, so it is not a codec checkpoint: expected the "
                f'keys "architecture" and "arguments" (written by save_model or `cgen convert`)'
            )
        names = cls.__dataclass_fields__
        config = cls(**{key: value for key, value in content.items() if key in names})
        for name, (kind, expected) in _KINDS.items():
            if not isinstance(getattr(config, name), kind):
                raise CheckpointError(f"{path}: {name} {getattr(config, name)!r} is not {expected}")
        if config.fingerprint is not None and not _FINGERPRINT.fullmatch(str(config.fingerprint)):
            raise CheckpointError(
                f"{path}: fingerprint {config.fingerprint!r} is not 12 hexadecimal digits"
            )
        if config.synthesis is not None and not _SYNTHESIS.fullmatch(str(config.synthesis)):
            raise CheckpointError(
                f"{path}: synthesis {config.synthesis!r} is not 4 hexadecimal digits"
            )
        return config

    def write(self, folder: Path) -> None:
        """Write ``folder/config.json``, readable by diffusers' ``from_pretrained`` as well."""
        content = {"_class_name": CLASS_NAME, **asdict(self)}
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def read_config(source: str | Path) -> CheckpointConfig:
    """The config of a checkpoint, without loading its weights.

    Args:
        source: as for :func:`compressai_gen.checkpoints.load_model`.

    Raises:
        CheckpointError: if there is no such checkpoint.
    """
    return CheckpointConfig.read(locate(source))


def locate(source: str | Path) -> Path:
    """The folder that ``source`` names, downloaded or taken from the cache if on the Hub.

    Args:
        source: a folder, a safetensors file in it, a saved pipeline's folder, or a Hub repo id
            ("org/name" or "org/name@revision").

    Raises:
        CheckpointError: if there is none, or if it is a pickle.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return model_folder(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path} is {_describe_file(path)}")
        return path.parent
    repo = _REPO_ID.fullmatch(str(source))
    if repo is None:
        raise CheckpointError(
            f"no checkpoint at {source}: give a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, "
            f"or a Hub repo id such as org/name"
        )
    return model_folder(_download(repo["repo"], repo["revision"]))


def model_folder(folder: Path) -> Path:
    """The model's folder in that of a saved pipeline, else ``folder`` itself; never raises."""
    nested = folder / PIPELINE_COMPONENT
    return nested if not os.path.exists(folder / CONFIG_NAME) and os.path.isdir(nested) else folder


def _download(repo_id: str, revision: str | None) -> Path:
    """The snapshot of a Hub repository: only the files a checkpoint consists of."""
    from huggingface_hub import snapshot_download

    weights = ("diffusion_pytorch_model*.safetensors", "model*.safetensors")
    files = [CONFIG_NAME, CARD_NAME, INDEX_NAME, *weights]
    nested = [f"{PIPELINE_COMPONENT}/{name}" for name in files]
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=files + nested))
    except Exception as error:  # a dozen classes of huggingface_hub, httpx and the OS
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"no folder {repo_id} here, and no such checkpoint from the Hub or its cache: {reason}"
        ) from error


def _describe_file(path: Path) -> str:
    """Why a single file is no checkpoint, and what to do about it."""
    with path.open("rb") as file:
        magic = file.read(4)
    if path.suffix in PICKLE_SUFFIXES or magic[:2] in (b"PK", b"\x80\x02"):
        return (
            "a PyTorch pickle, which is not loaded as it stands: turn it into a folder with "
            f"`cgen convert compressai {path.name} --arch NAME --out DIR`"
        )
    return f"not a safetensors file: give the folder that holds {CONFIG_NAME}"


def _instead_of_config(folder: Path) -> str:
    pickles = sorted(p for p in folder.glob("*") if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        return _describe_file(pickles[0]).replace("a PyTorch", f"{pickles[0].name} is a PyTorch", 1)
    return f"expected {CONFIG_NAME} and {WEIGHTS_NAME} (written by save_model or `cgen convert`)"
