"""Tables of studies: rows with the same keys, for programs and for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows with the same keys as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as a table for people."""
    lines = ["  ".join(f"{name:>13}" for name in rows[0])]
    for row in rows:
        cells = (f"{v:13.4f}" if isinstance(v, float) else f"{v!s:>13}" for v in row.values())
        lines.append("  ".join(cells))
    return "\n".join(lines)
