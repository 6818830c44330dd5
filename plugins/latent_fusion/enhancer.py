"""The dial at decoding: ``cgen decompress photo.cgen out.png --tau 0.3``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressai_gen.checkpoints.layout import locate
from compressai_gen.codec.enhancers import DecodedLatents
from compressai_gen.errors import CheckpointError, CodecError
from diffusers_codec.models.latent_fusion import LatentFusionModel
from diffusers_codec.pipelines.latent_fusion.sampling import (
    check_tau,
    default_scheduler,
    mix,
    sample,
)

EMBEDDED = Path(__file__).parent / "checkpoint" / "fusion"
"""D of the codec that ships; its auxiliary encoder lies beside it."""


class LatentFusionEnhancer:
    """Latent fusion on the files of any CompressAI model, for which there is a D.

    .. code-block:: none

        file ─► y_hat ─► D, ten DDIM steps ─► y_tilde ─► (1 - tau^2) y_tilde + tau^2 y_hat ─► g_s

    The latents are sampled once (mode "cached"), and the last ones are kept: the same file at
    another tau costs one synthesis.
    """

    def enhance(
        self, decoded: DecodedLatents, tau: float = 0.0, steps: int = 10, fusion: str | None = None
    ) -> Tensor:
        """The picture between D's (tau = 0) and the codec's own (tau = 1), (1, 3, 16 h, 16 w).

        Raises:
            OptionError: tau or steps out of range.
            CheckpointError: there is no D for the checkpoint that wrote the file.
        """
        if check_tau(tau) == 1:
            return decoded.synthesize()
        folder = Stamped(module_folder(decoded, fusion))
        key = (latents_key(decoded), folder, steps)
        y_tilde = LAST.get(key, lambda: sampled(decoded, folder, steps))
        return decoded.synthesize(mix(y_tilde, decoded.y_hat, tau))


class Last:
    """One tensor and the key it is found again by; what it was made from is not kept."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget it."""
        self.held: tuple[object, Tensor | None] = (None, None)

    def get(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of ``key``, made if another one is held."""
        held, tensor = self.held
        if tensor is None or held != key:
            tensor = make()
            self.held = (key, tensor)
        return tensor


LAST = Last()
"""y_tilde of the last file."""


def latents_key(decoded: DecodedLatents) -> tuple[Any, ...]:
    """What decoded latents are told apart by: their numbers, the checkpoint, seed and rate."""
    y_hat = decoded.y_hat
    digest = hashlib.sha256(y_hat.cpu().numpy().tobytes()).digest()
    checkpoint = decoded.header.fingerprint, decoded.synthesis
    return (*checkpoint, digest, y_hat.shape, y_hat.device, decoded.seed, decoded.quality)


class Stamped:
    """A folder that compares by its path and the time its weights were written, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        times = (file.stat().st_mtime_ns for file in folder.glob("*.safetensors"))
        self.key = folder, max(times, default=0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stamped) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def sampled(decoded: DecodedLatents, folder: Stamped, steps: int) -> Tensor:
    """y_tilde of a file."""
    fusion = module(folder, str(decoded.y_hat.device))
    fusion.check_base(decoded.header.fingerprint, decoded.synthesis, decoded.y_hat.shape[1])
    return sample(
        fusion,
        default_scheduler(),
        decoded.y_hat,
        seed=decoded.seed,
        quality=decoded.quality,
        num_inference_steps=steps,
    )


@lru_cache(maxsize=1)
def module(folder: Stamped, device: str) -> LatentFusionModel:
    """The fusion module in a folder, the last one kept."""
    return load_module(folder.folder, device)


def load_module(folder: Path, device: str | torch.device) -> LatentFusionModel:
    """The fusion module in a folder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        fusion: Any = LatentFusionModel.from_pretrained(folder)  # diffusers' .to is not typed
    except CodecError:
        raise
    except Exception as error:  # diffusers raises what it likes for files that hold no module
        raise CheckpointError(f"{folder} holds no fusion module: {error}") from error
    loaded: LatentFusionModel = fusion.to(device).eval()
    return loaded


def module_folder(decoded: DecodedLatents, given: str | None) -> Path:
    """Where the D for these latents lies.

    Raises:
        CheckpointError: if none was given and the embedded one is for another checkpoint, or the
            one given is not there.
    """
    if given is not None:
        return existing(given)
    config = LatentFusionModel.load_config(EMBEDDED) if EMBEDDED.exists() else {}
    own = config.get("base_fingerprint"), config.get("base_synthesis")
    if own != (decoded.header.fingerprint.hex(), decoded.synthesis.hex()):
        raise CheckpointError(
            f"no fusion module for {decoded.codec} {decoded.header.fingerprint.hex()} ships with "
            f"the package: give one with --fusion FOLDER, or train it with "
            f"`cgen train latent-fusion --base CHECKPOINT`"
        )
    return EMBEDDED


def existing(given: str) -> Path:
    """The folder of a module, or of a pipeline around one, here or from the Hub ("org/name").

    Raises:
        CheckpointError: neither.
    """
    folder = Path(given).expanduser()
    nested = folder / "fusion"
    return nested if nested.is_dir() else locate(given)
