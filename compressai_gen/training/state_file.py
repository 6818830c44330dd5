"""The state of a training in a file, from which it goes on after a kill."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compressai_gen.bitstream.files import check_writable
from compressai_gen.errors import CheckpointError, OptionError

IDENTITY = "identity"

MISREAD = (RuntimeError, LookupError, AttributeError, TypeError, ValueError)
"""What torch, or looking for the identity, says of other files."""


class StateFile:
    """A state and whose it is: that of another training is not taken for one's own.

    Args:
        path: of the file, which need not exist.
        identity: what the training depends on, by names that a user understands.
    """

    def __init__(self, path: Path, identity: Mapping[str, str | int | float] | None = None) -> None:
        self.path, self.identity = path, dict(identity or {})

    def write(self, content: Mapping[str, Any]) -> None:
        """Write beside the old state, then rename: a kill in between loses nothing."""
        beside = self.path.with_name(f".{self.path.name}.new")
        torch.save({**content, IDENTITY: self.identity}, beside)
        os.replace(beside, self.path)

    def read(self, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """What was written, its tensors on a device; None if nothing was.

        Raises:
            CodecError: no state can be written there.
            CheckpointError: it is not a state, or damaged.
            OptionError: it is the state of another training.
        """
        check_writable(self.path)
        if not self.path.exists():
            return None
        advice = "remove it, or give another folder"
        try:
            content = torch.load(self.path, map_location=device, weights_only=True)
            identity = dict(content.pop(IDENTITY))
        except (pickle.UnpicklingError, EOFError, OSError, *MISREAD) as error:
            raise CheckpointError(f"{self.path} is not a state, or damaged: {advice}") from error
        other = [name for name, value in self.identity.items() if identity.get(name) != value]
        if other:
            raise OptionError(
                f"{self.path} is the state of another {' and '.join(other)}: {advice}"
            )
        return dict(content)
