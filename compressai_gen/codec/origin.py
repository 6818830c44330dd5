"""Whether a file and a checkpoint belong together."""

from __future__ import annotations

import warnings

from compressai_gen.bitstream import Header
from compressai_gen.errors import CheckpointError
from compressai_gen.notes import SynthesisWarning


def check_origin(header: Header, name: str, fingerprint: bytes, synthesis: bytes) -> None:
    """Refuse a file of another entropy path, warn about another synthesis.

    Args:
        header: of the file.
        name: of the codec, for the message.
        fingerprint: 6 bytes of the checkpoint at hand.
        synthesis: 2 bytes of its networks from latents to pixels.

    Raises:
        CheckpointError: the symbols of the file cannot be decoded with this checkpoint.
    """
    if header.fingerprint != fingerprint:
        raise CheckpointError(
            f"the file was written with checkpoint {header.fingerprint.hex()}, this is "
            f"{fingerprint.hex()} ({name}): pass the right one with --checkpoint"
        )
    if header.synthesis != synthesis:
        warnings.warn(
            f"the file was written for synthesis {header.synthesis.hex()}, this checkpoint "
            f"has {synthesis.hex()}: the latents are the same, the picture may differ",
            SynthesisWarning,
            stacklevel=5,
        )
