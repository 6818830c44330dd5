"""The fingerprint of a model: what its files carry to find it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from compressai.entropy_models import EntropyBottleneckVbr
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

from compressai_gen.checkpoints.layout import CONFIG_NAME
from compressai_gen.errors import CheckpointError

_TABLES = ("_quantized_cdf", "_offset", "_cdf_length")


def model_fingerprint(model: nn.Module) -> bytes:
    """6 bytes that name everything the decoding of symbols depends on.

    That is the fixed-point entropy path where there is one. Without one every float of the model
    counts: such files are bound to the exact weights.
    """
    portable = getattr(model, "portable", None)
    if portable is not None:
        return portable.fingerprint()
    digest = hashlib.sha256()
    for name, tensor in sorted(_decisive(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        octets = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(octets.numpy().tobytes())
    return digest.digest()[:6]


def synthesis_hash(model: nn.Module) -> bytes:
    """2 bytes that name the networks from latents to pixels.

    Two models with one fingerprint differ in them alone: a file is decoded with either, but looks
    as it should with one of them.
    """
    return stored_synthesis(model.state_dict())


def stored_synthesis(tensors: Mapping[str, Tensor]) -> bytes:
    """As :func:`synthesis_hash`, of a checkpoint's tensors in the precision they are stored in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if name.startswith(("g_s.", "y_gain.")):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:2]


def check_fingerprint(model: nn.Module, expected: str | None, where: str) -> None:
    """Refuse weights that do not belong to their config.

    Raises:
        CheckpointError: if the fingerprint differs from the one that was recorded.
    """
    if expected is None:
        return
    actual = model_fingerprint(model).hex()
    if actual != expected:
        raise CheckpointError(
            f"{where}: the weights have fingerprint {actual}, {CONFIG_NAME} says {expected}; "
            f"the two files do not belong together, so fetch or convert the checkpoint again"
        )


def _decisive(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model without what changes in use.

    ``MaskedConv2d`` zeroes its masked weights when it first runs, and ``EntropyBottleneckVbr``
    rebuilds its tables for every rate.
    """
    state = dict(model.state_dict())
    for owner, module in model.named_modules():
        if isinstance(module, EntropyBottleneckVbr):
            for table in _TABLES:
                del state[f"{owner}.{table}"]
        if isinstance(module, MaskedConv2d):
            state[f"{owner}.weight"] = module.weight * module.mask
    return state
