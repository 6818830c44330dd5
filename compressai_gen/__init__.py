"""Generative image codecs as plugins of CompressAI and diffusers.

Importing this package makes its models and pipelines known to both hosts, in whichever order they
are imported. It imports neither of them, nor torch: the names below are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressai_gen.activation import install as _install
from compressai_gen.errors import CodecError
from compressai_gen.registry import import_target as _import_target

if TYPE_CHECKING:
    from compressai_gen.checkpoints import load_model, save_model
    from compressai_gen.codec import Codec, ModelCodec, codec_for, open_codec
    from compressai_gen.hookspecs import hookimpl
    from compressai_gen.options import Option

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "CodecError",
    "ModelCodec",
    "Option",
    "codec_for",
    "hookimpl",
    "load_model",
    "open_codec",
    "save_model",
]

_MODULES = {
    "Codec": "codec",
    "ModelCodec": "codec",
    "codec_for": "codec",
    "open_codec": "codec",
    "load_model": "checkpoints",
    "save_model": "checkpoints",
    "Option": "options",
    "hookimpl": "hookspecs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = _import_target(f"{__name__}.{_MODULES[name]}:{name}")
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_install()
