"""Parsers of the commands."""

from __future__ import annotations

import argparse
from typing import NoReturn

from compressai_gen.errors import OptionError


class Parser(argparse.ArgumentParser):
    """Complains as all the rest does: one line, exit status 1."""

    def error(self, message: str) -> NoReturn:
        """Raises OptionError: what argparse has to say."""
        command = self.prog.removeprefix("cgen ")
        raise OptionError(f"{command}: {message}; see {self.prog} --help")
