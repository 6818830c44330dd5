"""Where and how precisely a model's transforms run: device and dtype as a user writes them."""

from __future__ import annotations

import torch

from compressai_gen.errors import OptionError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_device(device: str | torch.device) -> torch.device:
    """A device that exists.

    Raises:
        OptionError: unknown, or not usable here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise OptionError(f"device {str(device)!r} cannot be used here: {first}") from error
    return found


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A floating-point type by name; None is float32.

    Raises:
        OptionError: another one.
    """
    for name, value in DTYPES.items():
        if dtype in (name, value):
            return value
    if dtype is not None:
        raise OptionError(f"dtype {dtype}: give one of {', '.join(DTYPES)}")
    return torch.float32
