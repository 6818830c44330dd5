"""A CSV log that any spreadsheet plots."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from compressai_gen.losses.rate_distortion import RateDistortion

FIELDS = ("step", "minutes", "learning_rate", "loss", "quality", "bits_per_pixel", "distortion")


class TrainingLog:
    """Means over the steps between two rows, overall and for the low, middle and high third.

    Rows after ``step`` (written by a run that was killed after its last saved state) are dropped.

    Args:
        file: the CSV; created with its folder, or continued.
        step: the step the run starts from.
        enabled: only the main process writes.
    """

    def __init__(self, file: Path, step: int, enabled: bool) -> None:
        self.file, self.enabled = file, enabled
        self.costs: list[Tensor] = []
        if not enabled:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        if file.exists():
            with file.open(newline="") as stream:
                rows = [r for r in csv.DictReader(stream) if int(r["step"]) <= step]
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, cost: RateDistortion, quality: Tensor) -> None:
        """Remember one step."""
        loss = cost.loss.detach().expand_as(quality)
        self.costs.append(
            torch.stack([loss, quality, cost.bits_per_pixel.detach(), cost.distortion.detach()])
        )

    def write(self, step: int, seconds: float, learning_rate: float) -> str:
        """Append the mean of the remembered steps and one row a third of the rate range.

        Returns:
            a short text for the progress bar.
        """
        values = torch.cat(self.costs, dim=1).float().cpu()
        self.costs.clear()
        top = values[1].max().item()
        groups = [values] + [
            values[:, (values[1] >= top * i / 3) & (values[1] < top * (i + 1) / 3)]
            for i in range(3)
        ]
        rows = [
            [
                step,
                round(seconds / 60, 3),
                learning_rate,
                *(round(v, 5) for v in g.mean(1).tolist()),
            ]
            for g in groups
            if g.size(1)
        ]
        if self.enabled:
            with self.file.open("a", newline="") as stream:
                csv.writer(stream).writerows(rows)
        loss, bpp, distortion = rows[0][3], rows[0][5], rows[0][6]
        return f"step {step} loss {loss:.3f} {bpp:.3f} bpp distortion {distortion:.4g}"
