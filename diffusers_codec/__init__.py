"""The diffusers side: components and pipelines that code images through a generative prior.

diffusers records a component under this package's name and looks both its class and `ModelMixin` or
`SchedulerMixin` up here, so all of them are attributes, imported at first use.
"""

from __future__ import annotations

from typing import Any

import compressai_gen  # noqa: F401  importing either of our packages makes the plugins known
from compressai_gen.plugins import registry

_BASES = {"ModelMixin", "SchedulerMixin"}


def __getattr__(name: str) -> Any:
    if name in _BASES:
        import diffusers

        value = getattr(diffusers, name)
    elif name.isidentifier() and name[0].isupper() and name in registry("components"):
        value = registry("components").load(name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_BASES, *registry("components")})
