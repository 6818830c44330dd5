"""A CSV log that any spreadsheet plots."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

START = ("step", "minutes", "learning_rate")


class TrainingLog:
    """Means over the steps between two rows.

    Where the steps have a column ``quality``, three more rows hold the means over the low, the
    middle and the high third of the rates. Rows after ``step`` (written by a run that was killed
    after its last saved state) are dropped.

    Args:
        file: the CSV; created, or continued.
        step: the step the run starts from.
        enabled: only the main process writes.
    """

    def __init__(self, file: Path, step: int, enabled: bool) -> None:
        self.file, self.enabled = file, enabled
        self.columns: dict[str, list[Tensor]] = {}
        self.rows: list[dict[str, str]] = []
        if enabled and file.exists():
            with file.open(newline="") as stream:
                self.rows = [r for r in csv.DictReader(stream) if int(r["step"]) <= step]
        self.is_new = True

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Remember one step: one value a picture, each of shape (B,)."""
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values.detach().float())

    def write(self, step: int, seconds: float, learning_rate: float) -> str:
        """Append the means of the remembered steps.

        Returns:
            a short text for the progress bar.
        """
        values = {name: torch.cat(parts).cpu() for name, parts in self.columns.items()}
        self.columns.clear()
        start = [step, round(seconds / 60, 3), learning_rate]
        rows = [
            [*start, *(round(column[group].mean().item(), 5) for column in values.values())]
            for group in _groups(values)
        ]
        if self.enabled:
            self._append([*START, *values], rows)
        told = zip(values, rows[0][len(START) :], strict=True)
        return f"step {step} " + " ".join(f"{name} {value:.4g}" for name, value in told)

    def _append(self, fields: list[str], rows: list[list[float]]) -> None:
        if self.is_new:
            with self.file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, fields, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(self.rows)
            self.is_new = False
        with self.file.open("a", newline="") as stream:
            csv.writer(stream).writerows(rows)


def _groups(values: Mapping[str, Tensor]) -> list[Tensor]:
    """Masks of all pictures and of the low, middle and high rates, as far as there are any."""
    everything = torch.ones_like(next(iter(values.values())), dtype=torch.bool)
    if "quality" not in values:
        return [everything]
    third = (values["quality"] / values["quality"].max().clamp_min(1e-9) * 3).long().clamp(max=2)
    masks = [third == i for i in range(3)]
    return [everything, *(mask for mask in masks if mask.any())]
