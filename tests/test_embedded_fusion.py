"""The fusion module that ships: it belongs to the codec that ships, and its dial works offline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cgen_command import cgen as cgen
from data import needs, shared_data
from PIL import Image
from skimage import data

from compressai_gen import open_codec
from compressai_gen.checkpoints import known
from compressai_gen.cli.main import main
from compressai_gen_plugins.latent_fusion import enhancer
from compressai_gen_plugins.latent_fusion.enhancer import EMBEDDED
from diffusers_codec import LatentFusionModel

GOLDEN = Path(__file__).parent / "golden"
TAUS = (0.0, 0.3, 0.5, 0.8, 1.0)


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="module")
def codec():
    return open_codec()


def psnr(a, b):
    error = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    return 10 * np.log10(255**2 / np.mean(error**2))


def test_it_is_small_enough_to_ship():
    files = [f for f in EMBEDDED.parent.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 16e6
    assert max(f.stat().st_size for f in files) < 12e6


def test_it_belongs_to_the_codec_that_ships(codec):
    config = json.loads((EMBEDDED / "config.json").read_text())
    assert config["base_fingerprint"] == codec.fingerprint.hex()
    assert config["base_synthesis"] == codec.synthesis.hex()
    assert config["rate_points"] == 10
    fusion = LatentFusionModel.from_pretrained(EMBEDDED)
    assert fusion.dtype == torch.float32
    assert fusion.latent_std.min() > 0


@pytest.mark.parametrize("tau", [1, 0.3])
def test_a_file_of_before_decodes_with_the_dial(cgen, tmp_path, tau):
    """Quality 3, without a wish: what `cgen compress` writes that knows nothing of the dial."""
    out = tmp_path / "out.png"
    status, _, err = cgen("decompress", GOLDEN / "embedded.cgen", out, "--tau", tau)
    assert status == 0, err
    with Image.open(out) as got, Image.open(GOLDEN / f"embedded-tau{tau}.png") as expected:
        difference = np.asarray(got, dtype=int) - np.asarray(expected, dtype=int)
    assert np.abs(difference).max() <= 1


def test_the_auxiliary_encoder_comes_from_the_zoo(photo, codec):
    from compressai.zoo import image_models

    (entry,) = [e for e in known() if e.embedded and e.architecture == "cheng2020-anchor-vbr-aux"]
    trained = image_models["cheng2020-anchor-vbr-aux"](pretrained=True)
    fresh = type(trained).from_base(codec.model)
    assert entry.folder == EMBEDDED.parent / "auxiliary"
    x = torch.from_numpy(np.asarray(photo)[:256, :448].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        a, b = (codec.model.g_s(encoder(x)).clamp(0, 1) for encoder in (trained, fresh))
    assert not torch.equal(a, b)
    assert psnr(a * 255, x * 255) > 28


def test_the_dial_from_the_command(photo, codec, tmp_path, monkeypatch):
    """A file knows nothing of the module, and nothing is fetched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.cgen").write_bytes(codec.compress(photo, quality=2))
    for tau in ("0", "0.3"):
        assert main(["decompress", "photo.cgen", f"{tau}.png", "--tau", tau]) == 0
    assert main(["decompress", "photo.cgen", "plain.png"]) == 0
    assert main(["decompress", "photo.cgen", "1.png", "--tau", "1"]) == 0
    pictures = {name: np.asarray(Image.open(f"{name}.png")) for name in ("0", "0.3", "plain", "1")}
    assert np.array_equal(pictures["plain"], pictures["1"])
    change = {n: np.abs(p.astype(int) - pictures["1"]).mean() for n, p in pictures.items()}
    assert change["0"] > change["0.3"] > 0.5


def test_repeats_are_identical_and_threads_change_a_level_at_most(photo, codec):
    file = codec.compress(photo, quality=3)

    def fused(threads):
        enhancer.LAST.clear()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return codec.decompress(file, tau=0, output_type="np").astype(int)
        finally:
            torch.set_num_threads(before)

    first = fused(1)
    assert np.array_equal(fused(1), first)
    assert np.abs(fused(2) - first).max() <= 1


def dialled(codec, name, quality):
    """LPIPS and PSNR of a photograph of scikit-image at every tau."""
    from compressai_gen.evaluation.measure import load_metrics
    from compressai_gen.images import to_tensor

    metrics, _ = load_metrics(["lpips-squeeze"], shared_data() / "weights")
    photo = Image.fromarray(getattr(data, name)())
    file = codec.compress(photo, quality=quality)
    pictures = [codec.decompress(file, tau=tau) for tau in TAUS]
    distances = [metrics["lpips-squeeze"](to_tensor(photo), to_tensor(p)) for p in pictures]
    return distances, [psnr(photo, picture) for picture in pictures]


@needs("weights", "lpips")
@pytest.mark.parametrize("quality", [1, 4, 7])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_dial_trades_distortion_for_perception(codec, name, quality):
    """On photographs that nothing was trained on: both ends, and no step back in between."""
    distances, fidelity = dialled(codec, name, quality)
    assert distances == sorted(distances)
    assert fidelity == sorted(fidelity)
    assert distances[0] < 0.9 * distances[-1]
    assert fidelity[0] > fidelity[-1] - 1.1


@needs("weights", "lpips")
@pytest.mark.parametrize("quality", [1, 4, 7])
def test_the_ends_of_the_dial_on_a_soft_photograph(codec, quality):
    """The best LPIPS of `chelsea` lies inside the dial (see the README); the ends are far apart."""
    distances, fidelity = dialled(codec, "chelsea", quality)
    assert distances[0] < 0.85 * distances[-1]
    assert fidelity == sorted(fidelity)
    assert fidelity[0] > fidelity[-1] - 1.1


@needs("kodak")
def test_it_earns_its_keep_at_few_steps(codec):
    """One step is nearly ten: D was trained with the paper's noise, which it can ignore."""
    with Image.open(shared_data() / "kodak" / "kodim23.png") as image:
        photo = image.convert("RGB").crop((200, 50, 520, 306))
    file = codec.compress(photo, quality=3)
    one, ten = (codec.decompress(file, tau=0, steps=steps) for steps in (1, 10))
    assert psnr(one, ten) > 38
