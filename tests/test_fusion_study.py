"""`cgen fusion-study`: the latent fusion paper's checks, through real files."""

from __future__ import annotations

import csv
import json
from statistics import fmean, stdev

import pytest
import torch
from cgen_command import assert_one_line, names
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from data import needs, shared_data
from PIL import Image
from small_fusion import small_fusion
from toys import DEFAULT, pixels

from compressai_gen.checkpoints import load_model, save_model
from compressai_gen.codec import ModelCodec
from compressai_gen.codec.model_codec import synthesis_hash
from compressai_gen.images import to_tensor
from compressai_gen.metrics.psnr import PsnrRgb
from compressai_gen_plugins.latent_fusion.study_figures import strongest
from compressai_gen_plugins.latent_fusion.study_results import trend
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.pipelines.latent_fusion import LatentFusionPipeline, default_scheduler

FILES = [f"{check}.{kind}" for check in ("seeds", "steps", "tau") for kind in ("csv", "png")]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.fixture
def codec(checkpoints):
    return ModelCodec.from_pretrained(checkpoints / DEFAULT, quality=3)


@pytest.fixture
def photos(work, codec):
    """The current folder with two photographs in it, and a fusion module for the codec."""
    (work / "photos" / "sub").mkdir(parents=True)
    Image.fromarray(pixels(40, 50)).save("photos/a.png")
    Image.fromarray(pixels(64, 34)[::-1]).save("photos/sub/b.png")
    save_fusion("module", codec.fingerprint, codec.synthesis)
    return work / "photos"


def save_fusion(folder, fingerprint, synthesis, seed=0):
    bound = {"base_fingerprint": fingerprint.hex(), "base_synthesis": synthesis.hex()}
    small_fusion(16, seed, rate_points=10, **bound).save_pretrained(folder)


def read(name):
    with open(f"study/{name}.csv") as file:
        return list(csv.DictReader(file))


def study(cgen, *options):
    return cgen("fusion-study", "photos", "--out", "study", "--quality", 3, *options)


def test_every_check_is_what_the_pipeline_decodes(cgen, photos, codec, checkpoints):
    status, out, err = study(cgen, "--fusion", "module")
    assert status == 0, err
    assert "metric lpips-squeeze skipped" in err
    residuals = ["residual-a.png", "residual-sub-b.png"]
    assert names("study") == sorted([*FILES, *residuals, "study.json"])

    component = CompressionModelComponent.from_compressai(load_model(checkpoints / DEFAULT))
    pipe = LatentFusionPipeline(component, small_fusion(16, rate_points=10), default_scheduler())
    pipe.set_progress_bar_config(disable=True)
    originals = [to_tensor(Image.open(photos / name)) for name in ("a.png", "sub/b.png")]
    files = [codec.compress(x) for x in originals]

    def psnr(**options):
        decoded = [to_tensor(pipe.decompress(file, **options)) for file in files]
        return fmean(PsnrRgb()(x, x_hat) for x, x_hat in zip(originals, decoded, strict=True))

    steps = {(row["mode"], row["steps"]): row for row in read("steps")}
    expected = [("cached", count) for count in ("1", "2", "4", "10", "20", "50")]
    assert list(steps) == [*expected, ("paper", "10")]
    measured = float(steps["cached", "2"]["psnr-rgb"])
    assert measured == pytest.approx(psnr(num_inference_steps=2, tau=0))
    rates = [8 * len(file) / x[0, 0].numel() for file, x in zip(files, originals, strict=True)]
    assert float(steps["paper", "10"]["bpp"]) == pytest.approx(fmean(rates))

    tau = {row["tau"]: float(row["psnr-rgb"]) for row in read("tau")}
    assert list(tau) == [f"{tenth / 10}" for tenth in range(11)]
    for value in ("0.0", "0.3", "1.0"):
        assert tau[value] == pytest.approx(psnr(tau=float(value)))
    seeds = [float(row["psnr-rgb"]) for row in read("seeds")]
    assert seeds[7] == pytest.approx(psnr(tau=0, seed=7))
    assert len(seeds) == 10

    content = json.loads((photos.parent / "study/study.json").read_text())
    spread = content["spread over seeds"]["psnr-rgb"]
    assert spread == {"mean": pytest.approx(fmean(seeds)), "std": pytest.approx(stdev(seeds))}
    verdict = content["monotone in tau"]["fusion"]["psnr-rgb"]
    assert verdict["trend"] == trend(list(tau.values())) == "rises"
    assert verdict["pictures"] == verdict["pictures alike"] == 2
    assert (content["codec"], content["quality"], content["dataset"]["n"]) == (DEFAULT, 3, 2)
    assert len(content["per_image"]) == 2 * (7 + 11 + 10)
    assert "psnr-rgb from tau 0 to 1 in steps of 0.1: rises" in out


def test_variants_join_the_curves_over_tau(cgen, photos, codec, checkpoints):
    """Variant-1 takes one step; Variant-2 brings a synthesis of its own, for the same files."""
    save_fusion("one/checkpoint", codec.fingerprint, codec.synthesis, seed=1)
    (photos.parent / "one/recipe.json").write_text('{"diffusion": false}')
    changed = load_model(checkpoints / DEFAULT)
    with torch.no_grad():
        changed.g_s[0].conv1.weight.mul_(1.5)
    save_model(changed, "two/codec", architecture=DEFAULT, arguments={"N": 16, "levels": 10})
    save_fusion("two/checkpoint", codec.fingerprint, synthesis_hash(changed))
    options = ("--limit", 1, "--variant", "variant-1=one", "--variant", "variant-2=two")
    status, out, err = study(cgen, "--fusion", "module", *options)
    assert status == 0, err
    assert "synthesis" not in err
    curves = {}
    for row in read("tau"):
        curves.setdefault(row["module"], []).append(row["psnr-rgb"])
    assert {name: len(curve) for name, curve in curves.items()} == {
        "fusion": 11,
        "variant-1": 11,
        "variant-2": 11,
    }
    assert curves["variant-1"][-1] == curves["fusion"][-1]  # the codec's own picture
    assert curves["variant-2"][-1] != curves["fusion"][-1]  # which Variant-2 gave up
    assert len({curve[0] for curve in curves.values()}) == 3
    modules = json.loads((photos.parent / "study/study.json").read_text())["modules"]
    assert [module["steps"] for module in modules.values()] == [10, 1, 10]
    assert "variant-2, psnr-rgb from tau 0 to 1" in out


def test_a_stock_model_of_one_rate(cgen, photos, checkpoints):
    small_fusion(24).save_pretrained("stock")
    options = ("--checkpoint", checkpoints / "mbt2018", "--fusion", "stock", "--limit", 1)
    status, _, err = cgen("fusion-study", "photos", "--out", "study", *options)
    assert status == 0, err
    content = json.loads((photos.parent / "study/study.json").read_text())
    assert (content["codec"], content["quality"]) == ("mbt2018", None)
    default, at_zero = content["tables"]["steps"][3], content["tables"]["tau"][0]
    assert (default["steps"], default["psnr-rgb"]) == (10, at_zero["psnr-rgb"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["no fusion module for cheng2020-anchor-vbr", "--fusion FOLDER"]),
        (("--fusion", "nowhere"), ["nowhere is not a folder"]),
        (("--fusion", "photos"), ["photos holds no fusion module"]),
        (("--fusion", "other"), ["trained for a base codec 010203040506"]),
        (("--fusion", "module", "--variant", "x"), ["--variant x: give NAME=FOLDER"]),
        (("--fusion", "module", "--variant", "fusion=module"), ["the name fusion is taken"]),
        (("--fusion", "module", "--variant", "x=foreign"), ["a variant of the same codec"]),
        (("--fusion", "module", "--limit", 0), ["limit 0"]),
        (("--fusion", "module", "--quality", 10), ["quality 10 is out of range"]),
        (("--fusion", "module", "--device", "abacus"), ["abacus"]),
    ],
)
@pytest.mark.filterwarnings("ignore::compressai_gen.notes.NonPortableWarning")
def test_mistakes_are_told_before_anything_is_measured(
    cgen, photos, codec, checkpoints, monkeypatch, options, words
):
    import compressai_gen_plugins.latent_fusion.enhancer as enhancer

    monkeypatch.setattr(enhancer, "EMBEDDED", photos / "nowhere")
    save_fusion("other", bytes(range(1, 7)), b"\0\0")
    (photos.parent / "foreign").mkdir()
    (photos.parent / "foreign/codec").symlink_to(checkpoints / "mbt2018")
    save_fusion("foreign/checkpoint", codec.fingerprint, codec.synthesis)
    assert_one_line(study(cgen, *options), *words)
    assert "study" not in names()


def test_pictures_that_cannot_be_studied(cgen, photos):
    assert_one_line(cgen("fusion-study", "nowhere", "--out", "study"), "nowhere is not a folder")
    (photos / "a.png").write_bytes(b"no picture")
    assert_one_line(study(cgen, "--fusion", "module"), "a.png: not a picture")
    assert "study" not in names()


@needs("weights", "lpips")
def test_lpips_joins_in(cgen, photos):
    weights = ("--weights", shared_data() / "weights")
    status, out, err = study(cgen, "--fusion", "module", "--limit", 1, *weights)
    assert status == 0, err
    assert all(0 < float(row["lpips-squeeze"]) < 2 for row in read("tau"))
    assert "fusion, lpips-squeeze from tau 0 to 1" in out
    Image.fromarray(pixels(31, 50)).save("photos/c.png")
    result = study(cgen, "--fusion", "module", *weights)
    assert_one_line(result, "c.png: lpips-squeeze needs at least 32 pixels")


def test_trends():
    assert trend([1, 2, 2, 3]) == "rises"
    assert trend([3, 1]) == "falls"
    assert trend([1, 2, 1]) == "not monotone"
    assert trend([1, 1]) == "constant"


def test_the_strongest_channels_come_first():
    feature = torch.zeros(5, 2, 2)
    feature[3], feature[1] = -2, 1
    assert strongest(feature, 2) == [3, 1]
    assert len(strongest(feature, 9)) == 5
