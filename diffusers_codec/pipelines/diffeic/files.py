"""The ``.cgen`` files of DiffEIC: one string with z and all groups of y."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from compressai_gen.bitstream import MAX_PIXELS, Header, pack, unpack
from compressai_gen.checkpoints import model_fingerprint
from compressai_gen.codec.coders import split
from compressai_gen.codec.geometry import STRIDE, padded
from compressai_gen.codec.origin import check_origin
from compressai_gen.errors import CorruptedFileError
from compressai_gen.models.lfgcm import Lfgcm
from diffusers_codec.models.diffeic_control import DiffEICControlModel

NAME = "diffeic"


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        z_c: the content variable, shape (1, C, h, w), of the padded picture.
        header: of the file.
        seed: of the noise: the header's, or else a function of the strings.
    """

    z_c: Tensor
    header: Header
    seed: int


@torch.no_grad()
def write(
    model: Lfgcm,
    x: Tensor,
    guidance: Tensor | None,
    size: tuple[int, int],
    synthesis: bytes,
    steps: int | None,
) -> bytes:
    """The bytes of a file.

    Args:
        model: on the device of ``x``.
        x: padded picture, shape (1, 3, H, W).
        guidance: its scaled latent.
        size: height and width of the original.
        synthesis: see :func:`synthesis_hash`.
        steps: the sender's wish; None for none.
    """
    (encoded,) = model.entropy_path().encode(*model.analysis(x, guidance))
    header = Header(
        fingerprint=model_fingerprint(model),
        synthesis=synthesis,
        height=size[0],
        width=size[1],
        symbols_crc=encoded.crc,
        steps=steps,
    )
    return pack(header, split(encoded.string))


@torch.no_grad()
def read(model: Lfgcm, data: bytes, synthesis: bytes, max_pixels: int = MAX_PIXELS) -> Content:
    """The content variable of a file.

    Raises:
        BitstreamError: the file is damaged, or none of ours.
        CheckpointError: it was written with another checkpoint.
    """
    header, chunks = unpack(data, max_pixels)
    check_origin(header, NAME, model_fingerprint(model), synthesis)
    if not header.portable:
        raise CorruptedFileError("the header's profile is not the one of its checkpoint")
    shape = padded(header.height) // STRIDE, padded(header.width) // STRIDE
    string = b"".join(chunks)
    (decoded,) = model.entropy_path().decode([string], shape)
    if decoded.crc != header.symbols_crc:
        raise CorruptedFileError(
            "the checksum of the decoded symbols does not match: the file is damaged, or was "
            "written by a faulty encoder"
        )
    device = next(model.g_s.parameters()).device
    z_c = model.synthesis(decoded.y_hat.to(device), decoded.z_hat.to(device)).float()
    return Content(z_c, header, zlib.crc32(string) if header.seed is None else header.seed)


def synthesis_hash(model: Lfgcm, control: DiffEICControlModel) -> bytes:
    """2 bytes that name what makes a picture of the symbols: g_s, f_c and the control module.

    The prior is not among it: VAE, UNet and scheduler may be replaced by others of their kind.
    """
    digest = hashlib.sha256(control.fingerprint().encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(("g_s.", "f_c.")):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:2]
