"""This side of the decoding process: start it once, feed it files, stop it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, cast

from compressai_gen.errors import CodecError
from compressai_gen.evaluation.codecs import RatePoint

#: warnings and bars are not repeated there: this process opens the same codec, and has its own bar
COMMAND = (sys.executable, "-W", "ignore", "-m", "compressai_gen.evaluation.decode_worker")


class Decoder:
    """A context manager around one decoding process, started at the first file."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        # no terminal: a bar with disable=None stays away
        self._messages = TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._messages.close()

    @property
    def pid(self) -> int | None:
        """Of the decoding process; None before the first file."""
        return self._process.pid if self._process else None

    def decode(self, point: RatePoint, file: Path, picture: Path) -> float:
        """Decode `file` into `picture` over there, as `point` says.

        Returns:
            The seconds it took, without reading and writing the files.

        Raises:
            CodecError: the codec refused the file, or the process died.
        """
        request = {
            "codec": asdict(point.codec),
            "options": dict(point.variant.options),
            "file": str(file),
            "picture": str(picture),
        }
        answer = self._ask(json.dumps(request))
        if "error" in answer:
            raise CodecError(f"decoding {file.name} failed: {answer['error']}")
        return float(answer["seconds"])

    def _ask(self, request: str) -> dict[str, float | str]:
        if self._process is None:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                text=True,
                encoding="utf-8",
            )
        requests, answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            print(request, file=requests, flush=True)
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            self._messages.seek(0)
            sys.stderr.write(self._messages.read().decode(errors="replace"))
            raise CodecError(f"the decoding process died (status {status}); its messages are above")
        return cast(dict[str, float | str], json.loads(line))
