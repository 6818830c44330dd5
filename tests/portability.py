"""Is an entropy path portable? One check for random and for trained weights.

The settings under which float networks are known to disagree with themselves: threads, batch,
memory layout, kernel library, and, where there is one, the GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from compressai.models import CompressionModel
from float_entropy import float_bytes
from torch import Tensor

from compressai_gen.entropy import Encoded
from compressai_gen.models.latents import analysis, entropy_networks

BATCH = 4


@dataclass
class PortabilityReport:
    """What :func:`check_portable` saw.

    Attributes:
        pictures: how many.
        symbols: how many of y and z, in all.
        fixed_bytes: length of the strings.
        float_bytes: length of the strings with the float path's symbols and table indexes.
        settings: under which everything was bit-identical.
    """

    pictures: int = 0
    symbols: int = 0
    fixed_bytes: int = 0
    float_bytes: int = 0
    settings: set[str] = field(default_factory=set)

    @property
    def rate_ratio(self) -> float:
        """Fixed rate over float rate."""
        return self.fixed_bytes / self.float_bytes


@torch.no_grad()
def check_portable(
    model: CompressionModel, images: list[Tensor], quality: float | None = None
) -> PortabilityReport:
    """Encode and decode pictures under every setting and compare every bit.

    Args:
        model: with ``model.portable`` attached.
        images: each (1, 3, H, W) in [0, 1], all of one size, H and W multiples of 64.
        quality: rate point of a variable-rate model.

    Raises:
        AssertionError: names the setting under which a string or a latent differs.
    """
    networks, report = entropy_networks(model), PortabilityReport()
    settings = dict(_settings(model))
    for start in range(0, len(images), BATCH):
        y, z = analysis(model, torch.cat(images[start : start + BATCH]), quality)
        y, z = y.float(), z.float()
        shape = (z.size(2), z.size(3))
        pairs = list(zip(y.split(1), z.split(1), strict=True))
        reference = [model.portable.encode(*pair, quality)[0] for pair in pairs]
        for name, (variant, context) in settings.items():
            with context():
                y_in, z_in = _arranged(name, y), _arranged(name, z)
                _compare(name, variant.portable.encode(y_in, z_in, quality), reference)
                strings = [encoded.string for encoded in reference]
                _compare(name, variant.portable.decode(strings, shape, quality), reference)
            report.settings.add(name)
        report.pictures += len(pairs)
        report.symbols += y.numel() + z.numel()
        report.fixed_bytes += sum(len(encoded.string) for encoded in reference)
        report.float_bytes += sum(float_bytes(networks, *pair, quality) for pair in pairs)
    return report


def _settings(model: CompressionModel) -> Iterator[tuple[str, tuple]]:
    yield "1 thread", (model, lambda: _threads(1))
    yield "2 threads", (model, lambda: _threads(2))
    yield "oneDNN off", (model, lambda: torch.backends.mkldnn.flags(enabled=False))
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    yield "channels_last", (last, nullcontext)
    for dtype in (torch.bfloat16, torch.float16):
        yield str(dtype), (copy.deepcopy(model).to(dtype), nullcontext)
    if torch.cuda.is_available():
        yield "cuda", (copy.deepcopy(model).cuda(), nullcontext)


def _arranged(setting: str, latent: Tensor) -> Tensor:
    if setting == "channels_last":
        return latent.contiguous(memory_format=torch.channels_last)
    return latent.cuda() if setting == "cuda" else latent


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compare(setting: str, got: list, expected: list[Encoded]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.crc == other.crc, f"{setting}: the symbols differ"
        assert torch.equal(one.y_hat.cpu(), other.y_hat.cpu()), f"{setting}: y_hat differs"
        assert getattr(one, "string", other.string) == other.string, f"{setting}: strings differ"
