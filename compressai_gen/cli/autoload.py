"""Have every Python of this environment know our models, without `import compressai_gen`.

"on" puts a one-line .pth file into site-packages, which Python runs when it starts; "off" removes
it. It costs about 20 milliseconds a start and does nothing once the package is uninstalled.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

FILE = "compressai-gen-autoload.pth"
# A .pth line runs only if it begins with "import"; it must not fail when the package is gone.
LINE = (
    "import importlib.util as u; u.find_spec('compressai_gen') and __import__('compressai_gen')\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["on", "off", "status"])


def run(args: argparse.Namespace) -> None:
    file = site_packages() / FILE
    if args.action == "on":
        file.write_text(LINE, encoding="utf-8")
    elif args.action == "off":
        file.unlink(missing_ok=True)
    print(f"autoload is on: {file}" if file.exists() else f"autoload is off: no {file}")


def site_packages() -> Path:
    """The folder of the running environment whose .pth files Python reads at start-up."""
    return Path(sysconfig.get_path("purelib"))
