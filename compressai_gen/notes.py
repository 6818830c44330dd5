"""Things a user should hear of but need not stop for: warnings that the command line prints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class CodecNote(UserWarning):
    """Base class of this package's notes."""


class ImageNote(CodecNote):
    """A picture was changed before it was coded (greyscale, colour profile, ...)."""


class NonPortableWarning(CodecNote):
    """A file is coded in the profile that decodes for sure only where it was written."""


class SynthesisWarning(CodecNote):
    """Other weights turn latents into pixels than those the file was written with."""


@contextmanager
def collected_notes() -> Iterator[list[str]]:
    """Collects this package's notes in a list, which is filled when the block ends.

    Other warnings are passed on.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CodecNote)
        yield notes
    for warning in caught:
        if issubclass(warning.category, CodecNote):
            notes.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
