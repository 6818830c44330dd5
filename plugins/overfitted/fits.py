"""What the fits of all overfitted codecs have in common: what they take, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from compressai_gen.errors import ImageError, OptionError, SizeLimitError
from compressai_gen.plugins import registry

FIT_PIXELS = 2**23
"""A picture of more is neither fitted nor drawn."""

Progress = Callable[[int, str], None]
"""Iterations done, and where the fit stands."""


@contextmanager
def training(seed: int) -> Iterator[None]:
    """Gradients, whatever mode the caller is in, and random numbers beside the caller's."""
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs as well
        yield


def checked(x: Tensor, name: str, numbers: int) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] as a fit takes them: float32, and its own.

    Args:
        x: of any floating-point type.
        name: of the codec.
        numbers: that its fit has in memory for every pixel.

    Raises:
        ImageError: another shape or type, or numbers out of range.
        OptionError: a picture that is too large, with the memory it would take.
    """
    if x.dim() != 4 or x.shape[1] != 3 or not x.is_floating_point() or not x.numel():
        raise ImageError(
            f"{name} takes float tensors of shape (B, 3, H, W), not {x.dtype} of shape "
            f"{tuple(x.shape)}"
        )
    height, width = x.shape[2:]
    if height * width > FIT_PIXELS:
        raise OptionError(
            f"{width}x{height}: fitting {name} would need about "
            f"{4 * numbers * height * width / 2**30:.0f} GiB; cut the picture into parts of at "
            f"most {FIT_PIXELS} pixels"
        )
    if not 0 <= float(x.min()) <= float(x.max()) <= 1:
        raise ImageError(
            f"{name} takes values in [0, 1], not {float(x.min()):g}..{float(x.max()):g}"
        )
    return x.detach().float().clone()


def check_drawn(height: int, width: int) -> None:
    """Refuse to draw what was never fitted.

    Raises:
        SizeLimitError: of more than `FIT_PIXELS` pixels.
    """
    if height * width > FIT_PIXELS:
        raise SizeLimitError(
            f"the file claims {width}x{height} = {height * width} pixels: no encoder writes one of "
            f"more than {FIT_PIXELS}; get the file from its source again"
        )


def check_metric(metric: str) -> None:
    """Of a zoo factory.

    Raises:
        OptionError: another than "mse", the zoo's default.
    """
    if metric != "mse":
        raise OptionError(
            f"metric {metric!r}: nothing was trained for it; leave it at mse, and choose what a "
            "fit minimises by loss=, the name of a registered loss"
        )


def check_loss(name: str) -> None:
    """By its name alone: what it is made of is loaded when it is needed.

    Raises:
        UnknownNameError: no such loss.
    """
    registry("losses").entry(name)
