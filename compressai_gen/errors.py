"""The one exception family: every message says what was given, what is allowed and what to do.

`cgen` prints ``str(error)`` as a single line and exits with status 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodecError(Exception):
    """Base class of every error this package raises on purpose."""


class UnknownNameError(CodecError, KeyError):
    """A name that nothing is registered under; the nearest known names are suggested."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str]) -> None:
        known = sorted(allowed)
        near = difflib.get_close_matches(given, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        self.message = f"unknown {kind} {given!r}; {hint}"
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class DuplicateNameError(CodecError):
    """Two plugins registered the same name."""


class PluginError(CodecError):
    """A plugin could not be loaded, or registered something unusable."""


class OptionError(CodecError, ValueError):
    """An argument outside its range (quality, size, number of steps, ...)."""


class ImageError(CodecError):
    """An input picture that cannot be read, or not without losing something silently."""


class CheckpointError(CodecError):
    """A checkpoint that is missing, incomplete or not what it says it is."""


class UnknownCheckpointError(CheckpointError):
    """A file names a checkpoint that is not known on this machine."""


class MissingWeightsError(CodecError):
    """Weights of a metric or a loss network that are not on this machine."""


class NotPortableError(CodecError):
    """A model whose entropy path cannot be exported to fixed point (serial context)."""


class BitstreamError(CodecError):
    """Base class for everything that can be wrong with a ``.cgen`` file."""


class NotACgenFileError(BitstreamError):
    """The magic number is missing."""


class UnsupportedVersionError(BitstreamError):
    """Written by a newer format version, or with unknown flags."""


class TruncatedFileError(BitstreamError):
    """The file ends before its header or a chunk does."""


class CorruptedFileError(BitstreamError):
    """A checksum does not match, or the symbols are impossible."""


class SizeLimitError(BitstreamError):
    """The header claims a picture larger than allowed."""
