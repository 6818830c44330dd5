"""Portability and rate of the embedded default, on trained weights and real photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressai.models import get_scale_table
from data import needs, shared_data
from PIL import Image
from portability import check_portable

from compressai_gen.checkpoints import known, load_model

CROP = 256
CROPS = 52
QUALITIES = (0.0, 2.5, 6.125, 9.0)
"""52 crops at each of four rate points: 208 photographs."""


@pytest.fixture(scope="module")
def model():
    names = {entry.architecture: entry.folder for entry in known() if entry.embedded}
    assert "cheng2020-anchor-vbr" in names, "the embedded default checkpoint is missing"
    model = load_model(names["cheng2020-anchor-vbr"])
    model.entropy_bottleneck.update(force=True)  # tables for the float side of the comparison
    model.gaussian_conditional.update_scale_table(get_scale_table(), force=True)
    return model


def crops(first: int, count: int) -> list[torch.Tensor]:
    """Centre crops of ``count`` photographs, shape (1, 3, CROP, CROP)."""
    out = []
    for path in sorted((shared_data() / "photos_small").rglob("*.webp"))[first : first + count]:
        picture = Image.open(path).convert("RGB")
        left, top = ((side - CROP) // 2 for side in picture.size)
        cut = np.array(picture.crop((left, top, left + CROP, top + CROP)))
        out.append(torch.from_numpy(cut).permute(2, 0, 1)[None] / 255)
    return out


@pytest.mark.slow
@needs("photos_small")
@pytest.mark.parametrize("group", range(len(QUALITIES)))
def test_embedded_default_is_portable_and_costs_no_rate(model, group):
    report = check_portable(model, crops(group * CROPS, CROPS), QUALITIES[group])
    assert report.pictures == CROPS
    assert report.fixed_bytes < 1.001 * report.float_bytes
    print(f"quality {QUALITIES[group]}: {report}, rate ratio {report.rate_ratio:.6f}")
