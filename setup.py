"""Only what pyproject.toml cannot say: ``plugins/`` is imported as ``compressai_gen_plugins``.

The packages below it are found, not listed, so that a new paper needs no edit here.
"""

from __future__ import annotations

from setuptools import find_packages, setup

PLUGINS = "compressai_gen_plugins"

setup(
    packages=[
        *find_packages(include=["compressai_gen*", "diffusers_codec*"]),
        PLUGINS,
        *(f"{PLUGINS}.{name}" for name in find_packages("plugins")),
    ],
    package_dir={PLUGINS: "plugins"},
)
