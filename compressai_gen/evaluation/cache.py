"""What a broken-off evaluation had measured: one JSON line a picture, beside the output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressai_gen.evaluation.schema import Record

Key = tuple[str, str, float | None]


class RecordCache:
    """Records by (codec, source, quality), appended to ``<output>.partial``.

    Args:
        output: the result file that is being made.
        settings: everything the records depend on; a file made under other settings is started
            anew, so that a changed data set or checkpoint is never mixed in.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.path = output.with_name(output.name + ".partial")
        text = json.dumps(settings, sort_keys=True)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.records = self._read()
        if not self.records:
            self.path.write_text(self._first_line(), encoding="utf-8")

    def get(self, codec: str, source: str, quality: float | None) -> Record | None:
        """The record measured earlier, if any."""
        return self.records.get((codec, source, quality))

    def add(self, record: Record) -> None:
        """Remember a record, on disk at once."""
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps(asdict(record)), file=file)
        self.records[record.codec, record.source, record.quality] = record

    def remove(self) -> None:
        """Delete the file, once the results are written."""
        self.path.unlink(missing_ok=True)

    def _first_line(self) -> str:
        return json.dumps({"fingerprint": self.fingerprint}) + "\n"

    def _read(self) -> dict[Key, Record]:
        if not self.path.is_file():
            return {}
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines(keepends=True)
        if not lines or lines[0] != self._first_line():
            return {}
        found = {line: record for line in lines[1:] if (record := _record(line))}
        if len(found) < len(lines) - 1:
            self.path.write_text("".join([lines[0], *found]), encoding="utf-8")
        return {(record.codec, record.source, record.quality): record for record in found.values()}


def _record(line: str) -> Record | None:
    """What a line says; None if it was cut off or damaged, which counts as not measured."""
    try:
        return Record(**json.loads(line)) if line.endswith("\n") else None
    except (ValueError, TypeError):
        return None
