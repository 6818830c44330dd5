"""The checkpoint that ships: it is found, it compresses a real photograph, it beats JPEG."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from compressai_gen import codec_for, open_codec
from compressai_gen.bitstream import unpack
from compressai_gen.checkpoints import known
from compressai_gen.codec.rate_control import reach_bpp

QUALITIES = (0, 1.5, 4, 6.25, 9)


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="module")
def files(photo):
    codec = open_codec()
    return {quality: codec.compress(photo, quality=quality) for quality in QUALITIES}


def psnr(a, b):
    error = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    return 10 * np.log10(255**2 / np.mean(error**2))


def jpeg_of(photo, size):
    """The best JPEG of at most ``size`` bytes."""
    for quality in range(95, 0, -1):
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= size:
            break
    return Image.open(buffer)


def test_it_is_small_enough_to_ship():
    (entry,) = [e for e in known() if e.embedded and e.architecture == "cheng2020-anchor-vbr"]
    assert sum(f.stat().st_size for f in entry.folder.iterdir()) < 12e6


def test_it_loads_as_a_component_without_a_warning(caplog):
    """Its float entropy networks are made from the integers, so none is missing."""
    from diffusers_codec import CompressionModelComponent

    (entry,) = [e for e in known() if e.embedded and e.architecture == "cheng2020-anchor-vbr"]
    CompressionModelComponent.from_pretrained(entry.folder)
    assert not caplog.records


def test_files_grow_and_pictures_improve_with_quality(photo, files):
    sizes = [len(files[q]) for q in QUALITIES]
    quality = [psnr(photo, codec_for(files[q]).decompress(files[q])) for q in QUALITIES]
    assert sizes == sorted(sizes)
    assert quality == sorted(quality)
    assert sizes[-1] > 3 * sizes[0]


@pytest.mark.parametrize("quality", [0, 1.5, 4])
def test_it_beats_jpeg_at_the_same_size(photo, files, quality):
    ours = psnr(photo, codec_for(files[quality]).decompress(files[quality]))
    assert ours > psnr(photo, jpeg_of(photo, len(files[quality]))) + 1


def test_a_budget_is_met_in_few_encodings(photo):
    codec, tried = open_codec(), []
    encode = codec.encoder(photo)

    def compress(quality):
        tried.append(quality)
        return encode(quality)

    reached = reach_bpp(compress, codec.quality_range, photo.width * photo.height, 0.3)
    assert 0.99 * 0.3 < reached.bpp <= 0.3
    assert len(tried) <= 8


def test_header_costs_31_bytes(files):
    header, chunks = unpack(files[4])
    assert (header.width, header.height, header.quality) == (451, 300, 4.0)
    assert len(files[4]) == len(chunks[0]) + 31


def test_zoo_gives_the_same_model(files):
    from compressai.zoo import image_models

    import compressai_gen  # noqa: F401  (fills the zoo)

    model = image_models["cheng2020-anchor-vbr"](quality=6.25, pretrained=True).eval()
    assert model.quality == 6.25
    assert model.portable.fingerprint() == unpack(files[4])[0].fingerprint
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_eval_model_runs_it(photo, tmp_path):
    """CompressAI's own tool: three quantisation steps, three rates of the one checkpoint."""
    photo.crop((0, 0, 192, 192)).save(tmp_path / "crop.png")
    command = [sys.executable, "-m", "compressai_gen", "eval-model", "pretrained", str(tmp_path)]
    command += ["-a", "cheng2020-anchor-vbr", "-q", "1", "--vbr_quantstep", "10,3,1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    assert results["bpp"] == sorted(results["bpp"])
    assert results["psnr-rgb"] == sorted(results["psnr-rgb"])
    assert results["psnr-rgb"][0] > 25
