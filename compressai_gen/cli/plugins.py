"""List the installed plugins, the hooks they implement, what they registered and what failed."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from compressai_gen.plugins import VARIABLE, Plugin, host


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 when a plugin failed, so that a script notices."""
    plugins = host().plugins
    if args.json:
        chosen = os.environ.get(VARIABLE)
        print(
            json.dumps(
                {VARIABLE: chosen, "plugins": [asdict(plugin) for plugin in plugins]}, indent=2
            )
        )
    else:
        print("\n".join(map(_describe, plugins)) or "no plugins installed")
    return int(any(plugin.failures for plugin in plugins))


def _describe(plugin: Plugin) -> str:
    state = "" if plugin.enabled else f"  (left out by {VARIABLE})"
    lines = [f"{plugin.name}  {plugin.distribution} {plugin.version}{state}"]
    for hook in plugin.hooks:
        names = plugin.registered.get(hook.removeprefix("register_"), [])
        lines.append(f"  {hook:<22}{', '.join(names) or '-'}")
    for failure in plugin.failures:
        where = f"in {failure.hook}" if failure.hook else "while loading"
        lines += [f"  FAILED {where}: {failure.cause}", f"    fix: {failure.fix}"]
    return "\n".join(lines)
