"""Training latent fusion: both stages through the command, what the losses are, bad settings."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from small_fusion import small_fusion
from small_models import picture, small_model
from toys import DEFAULT, exported, pixels

from compressai_gen.checkpoints import load_model, read_config
from compressai_gen.errors import MissingWeightsError, OptionError
from compressai_gen.losses.loading import load_loss
from compressai_gen.losses.moved import moved
from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
from compressai_gen_plugins.latent_fusion.judge import PatchJudge
from compressai_gen_plugins.latent_fusion.recipe import LATENT_FUSION
from compressai_gen_plugins.latent_fusion.runs import FusionRun, picture_loss
from compressai_gen_plugins.latent_fusion.tasks import (
    AuxiliaryTask,
    Base,
    FusionTask,
    PictureLoss,
    Trained,
    latent_statistics,
)
from diffusers_codec.models.compression_model import CompressionModelComponent
from diffusers_codec.models.latent_fusion import LatentFusionModel

SMALL = ("--argument", "width=8", "--argument", "units=1")
TINY = ("--loss", "mse", "--crop", 64, "--batch-size", 2, *SMALL)


@pytest.fixture
def photos(work):
    (work / "photos").mkdir()
    Image.fromarray(pixels(80, 90)).save(work / "photos" / "a.png")
    return work / "photos"


def test_both_stages_and_the_dial(cgen, photos, checkpoints):
    """From a folder of pictures and a codec to a module that decodes the codec's files."""
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / DEFAULT, *TINY)
    status, _, err = cgen(*train, "--out", "run", "--steps", 3)
    assert status == 0, err
    assert "--tau 0.3 --fusion run/checkpoint" in err
    fusion = LatentFusionModel.from_pretrained("run/checkpoint")
    assert fusion.config.rate_points == 10
    assert fusion.config.base_architecture == DEFAULT
    assert fusion.latent_std.std() > 0
    encoder = load_model("run/auxiliary/checkpoint")
    untrained = load_model(checkpoints / DEFAULT)
    assert not torch.equal(encoder.g_a[0].conv1.weight, untrained.g_a[0].conv1.weight)
    assert cgen("compress", "photo.png")[0] == 0
    dial = ("--tau", 0, "--fusion", "run/checkpoint")
    status, _, err = cgen("decompress", "photo.cgen", "out.png", *dial)
    assert status == 0, err
    other = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / "mbt2018", *TINY)
    assert_one_line(cgen(*other, "--out", "run", "--steps", 5), "run holds a run with base")


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (("--argument", "widht=9"), "argument widht: D takes width, units"),
        (("--argument", "latent_channels=7"), "argument latent_channels: D takes width"),
        (("--init", "nowhere"), "nowhere"),
        (("--init", "other"), "other has rate_points 10, not None"),
        (("--init", "narrow"), "narrow has latent_channels 16, not 24"),
        (("--init", "single", "--argument", "units=2"), "single has units 1, not 2: leave out"),
        (("--init", "photos"), "photos"),
    ],
)
def test_mistakes_are_told_before_the_first_stage(cgen, photos, checkpoints, mistake, message):
    small = {"width": 8, "units": 1}
    small_fusion(24, rate_points=10, **small).save_pretrained("other")
    small_fusion(16, **small).save_pretrained("narrow")
    small_fusion(24, **small).save_pretrained("single")
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / "mbt2018")
    result = cgen(*train, *TINY[:6], "--out", "run", "--steps", 1, *mistake)
    assert_one_line(result, message)
    assert not (photos.parent / "run" / "auxiliary").exists()


@pytest.mark.parametrize(
    ("metric", "loss"),
    [("mse", "lpips-squeeze"), ("ms-ssim", "lpips-squeeze"), ("lpips-vgg", "mse")],
)
def test_the_loss_is_the_opposite_of_what_the_base_was_trained_for(metric, loss, monkeypatch):
    """Issue, paper: perceptual for a distortion-oriented base, distortion for a perceptual one."""
    asked = []
    monkeypatch.setattr(
        "compressai_gen_plugins.latent_fusion.tasks.load_loss", lambda name: asked.append(name)
    )
    picture_loss(LATENT_FUSION.preset("paper"), metric)
    assert asked == [loss]


@pytest.mark.parametrize(("recorded", "metric"), [(None, "perceptual quality"), ("mse", "mse")])
def test_hific_is_perceptual_whatever_is_recorded(work, recorded, metric):
    component = CompressionModelComponent.from_compressai(exported("hific"), metric=recorded)
    component.save_pretrained("codec")
    assert read_config("codec").metric == metric
    recipe = LATENT_FUSION.preset("paper").replace(base="codec")
    assert FusionRun(SimpleNamespace(recipe=recipe, out=work)).loss.name == "mse"


def test_a_finished_first_stage_is_not_repeated(cgen, photos, checkpoints):
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / "mbt2018", *TINY)
    assert cgen(*train, "--out", "run", "--steps", 1)[0] == 0
    status, _, err = cgen(*train, "--out", "run", "--steps", 2)
    assert status == 0
    assert "mbt2018-aux" not in err
    assert torch.load("run/state.pt", weights_only=True)["step"] == 2


def test_the_ablation_variants(cgen, photos, checkpoints):
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / DEFAULT, *TINY)
    assert cgen(*train, "--out", "one", "--steps", 2, "--preset", "variant-1")[0] == 0
    assert not list(photos.parent.glob("one/auxiliary"))
    assert cgen(*train, "--out", "two", "--steps", 2, "--preset", "variant-2")[0] == 0
    before, after = load_model(checkpoints / DEFAULT), load_model("two/codec")
    assert not torch.equal(before.g_s[0].conv1.weight, after.g_s[0].conv1.weight)
    assert torch.equal(before.g_a[0].conv1.weight, after.g_a[0].conv1.weight)
    recorded = json.loads((photos.parent / "two/checkpoint/config.json").read_text())
    original = json.loads((photos.parent / "one/checkpoint/config.json").read_text())
    assert recorded["base_fingerprint"] == original["base_fingerprint"]
    assert recorded["base_synthesis"] != original["base_synthesis"]


def test_a_synthesis_of_its_own_keeps_what_the_codec_was_trained_for(cgen, photos):
    base = CompressionModelComponent.from_compressai(
        exported("mbt2018-mean"), quality=3, metric="ms-ssim"
    )
    base.save_pretrained("base")
    train = ("train", "latent-fusion", "--data", photos, "--base", "base", *TINY)
    status, _, err = cgen(*train, "--out", "two", "--steps", 1, "--preset", "variant-2")
    assert status == 0, err
    config = read_config("two/codec")
    assert (config.quality, config.metric) == (3, "ms-ssim")


def test_missing_weights_of_the_loss_are_told(cgen, photos, checkpoints, monkeypatch):
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(photos))
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / DEFAULT)
    result = cgen(*train, "--out", "run", "--loss", "lpips-vgg")
    assert_one_line(result, "lpips-vgg", "COMPRESSAI_GEN_WEIGHTS")
    with pytest.raises(MissingWeightsError):
        load_loss("lpips-alex")


def tasks(target_weight=1.0, noise_target="y_hat", architecture=DEFAULT, levels=10):
    model = small_model(architecture)
    fusion = small_fusion(16, rate_points=levels)
    base, loss = Base(model, levels), PictureLoss("mse", 0.5)
    encoders = [AuxiliaryEncoder.from_base(small_model(architecture, seed=1)) for _ in range(2)]
    first = AuxiliaryTask(encoders[0], base, loss, quantize=False)
    options = {"target_weight": target_weight, "noise_target": noise_target}
    return first, FusionTask(Trained(fusion), encoders[1], base, loss, **options)


def test_the_losses_are_those_of_the_paper():
    """Equation 2, with L = MSE plus half an MSE, and the base without gradients."""
    torch.manual_seed(0)
    _, task = tasks(target_weight=3.0)
    losses = task.train()(torch.rand(2, 3, 64, 64))
    columns = losses.columns
    expected = 1.5 * columns["squared error"] + 3 * columns["target error"]
    torch.testing.assert_close(columns["loss"], expected)
    torch.testing.assert_close(losses.loss, expected.mean())
    losses.loss.backward()
    assert all(p.grad is not None for p in task.model.fusion.sample_units.parameters())
    assert all(p.grad is None for p in task.base.parameters())
    assert all(p.grad is None for p in task.encoder.parameters())
    assert not task.base.model.training


@pytest.mark.parametrize("target", ["y_hat", "y_bar"])
def test_what_is_noised(target):
    _, task = tasks(noise_target=target)
    task.alphas.fill_(1.0)  # no noise: y_t is the signal
    y_hat, y_bar = torch.zeros(2, 16, 4, 4), torch.ones(2, 16, 4, 4)
    noisy, fraction = task.noised(y_hat, y_bar)
    assert torch.equal(noisy, y_bar if target == "y_bar" else y_hat)
    assert ((fraction > 0) & (fraction <= 1)).all()
    task.alphas.fill_(0.0)
    assert task.noised(y_hat, y_bar)[0].std() > 0.5


def test_without_diffusion_d_sees_noise_alone():
    _, task = tasks()
    noisy, fraction = task.noised(torch.full((2, 16, 4, 4), 9.0), None)
    assert abs(noisy.mean()) < 1
    assert fraction.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("architecture", "levels"), [(DEFAULT, 10), ("mbt2018-mean-vbr", 8), ("cheng2020-anchor", None)]
)
def test_the_decoded_latent_is_the_one_in_files(architecture, levels):
    """What D learns from is what decoding the file gives; a step off where context is serial."""
    from compressai_gen.codec import ModelCodec

    model = exported(architecture)
    base, x = Base(model, levels), picture()
    quality = None if levels is None else torch.tensor([5.0])
    y_hat = base.decoded(x, quality)
    codec = ModelCodec(model, architecture)
    data = codec.compress(x[0], quality=None if levels is None else 5.0)
    difference = (y_hat - codec.decode_latents(data).y_hat).abs()
    assert difference.max() < (1.01 if architecture == "cheng2020-anchor" else 0.05)
    assert y_hat.std() > 0.5


def test_rounded_targets():
    base = Base(small_model(DEFAULT), 10)
    y, quality = torch.randn(2, 16, 4, 4), torch.tensor([0.0, 9.0])
    steps = base.model.y_gain.inverse_gain(quality)
    rounded = base.quantized(y, quality)
    torch.testing.assert_close(rounded / steps, (y / steps).round(), atol=1e-4, rtol=0)
    assert torch.equal(Base(small_model("mbt2018-mean"), None).quantized(y, None), y.round())


@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior-vbr", "mbt2018-vbr"])
def test_rounded_targets_of_a_stock_variable_rate_model(architecture):
    base = Base(small_model(architecture), 8)
    y = torch.randn(2, 24, 4, 4, requires_grad=True)
    for rate, gain in ((0, 0.1), (7, 1.0)):
        rounded = base.quantized(y, torch.full((2,), float(rate)))
        torch.testing.assert_close(rounded, (y * gain).round() / gain)
    rounded.sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y))


def test_statistics_are_those_of_the_latents():
    base = Base(small_model("mbt2018-mean"), None)
    batches = [torch.rand(1, 3, 64, 64) for _ in range(3)]
    mean, std = latent_statistics(base, batches)
    latents = torch.cat([base.decoded(x, None) for x in batches])
    torch.testing.assert_close(mean, latents.mean((0, 2, 3)))
    assert (std > 0).all()


def test_both_tasks_learn():
    """A few steps on one batch lower what they minimise."""
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), scale_factor=8, mode="bilinear")
    for task in tasks():
        optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
        losses = []
        for _ in range(30):
            torch.manual_seed(1)  # the same noise and rate points
            loss = task.train()(x).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0], task.name


def test_a_loss_network_sees_both_pictures_moved_alike():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 80)
    shapes, places = set(), set()
    for _ in range(40):
        x_hat, seen = moved(x + 1, x)
        torch.testing.assert_close(x_hat - seen, torch.ones_like(seen))
        shapes.add(tuple(seen.shape[2:]))
        places.add(float(seen[0, 0, 0, 0]))
        assert set(seen[0, 1].flatten().tolist()) <= set(x[0, 1].flatten().tolist())
    assert shapes == {(49, 65), (65, 49)}
    assert len(places) > 30


def test_the_judge_learns_to_tell_and_d_to_be_believed():
    torch.manual_seed(0)
    judge, x = PatchJudge(8), torch.rand(2, 3, 64, 64)
    x_hat = torch.nn.functional.avg_pool2d(x, 3, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam(judge.parameters(), 3e-3)
    first = float(judge.mistakes(x_hat, x).mean().detach())
    for _ in range(60):
        optimizer.zero_grad()
        judge.mistakes(x_hat, x).mean().backward()
        optimizer.step()
    assert judge.mistakes(x_hat, x).mean() < 0.5 * first
    assert x_hat.grad is None
    optimizer.zero_grad()
    judge.disbelief(x_hat).mean().backward()
    assert all(p.grad is None for p in judge.parameters())
    better = x_hat - 0.3 * x_hat.grad / x_hat.grad.abs().mean() * x_hat.std()
    assert judge.disbelief(better).mean() < judge.disbelief(x_hat).mean()


def test_the_adversarial_term():
    """It is added to equation 2 by its weight, and the judge learns in the same step."""
    torch.manual_seed(0)
    _, task = tasks()
    task.model.judge, task.adversarial = PatchJudge(8), 0.5
    x = torch.rand(2, 3, 64, 64)
    losses = task.train()(x)
    without = 1.5 * losses.columns["squared error"] + losses.columns["target error"]
    mistakes = losses.columns["judge"]
    disbelief = (losses.columns["loss"] - without) / 0.5
    assert disbelief.abs().max() > 1e-3
    torch.testing.assert_close(losses.loss, losses.columns["loss"].mean() + mistakes.mean())
    losses.loss.backward()
    assert all(p.grad is not None for p in task.model.parameters() if p.requires_grad)


def test_the_judge_is_not_saved_and_a_run_keeps_it(cgen, photos, checkpoints):
    train = ("train", "latent-fusion", "--data", photos, "--base", checkpoints / DEFAULT, *TINY)
    status, _, err = cgen(*train, "--adversarial", 0.01, "--out", "run", "--steps", 2)
    assert status == 0, err
    weights = LatentFusionModel.from_pretrained("run/checkpoint").state_dict()
    assert not [name for name in weights if "judge" in name]
    result = cgen(*train, "--out", "run", "--steps", 3)
    assert_one_line(result, "adversarial=0.01", "--out")


def test_settings_that_cannot_be():
    recipe = LATENT_FUSION.preset()
    with pytest.raises(OptionError, match="adversarial weight -1"):
        recipe.replace(adversarial=-1).check()
    with pytest.raises(OptionError, match="noise target 'z': give one of y_hat, y_bar"):
        recipe.replace(noise_target="z").check()
    with pytest.raises(OptionError, match="auxiliary share 1"):
        recipe.replace(auxiliary_share=1.0).check()
    paper = LATENT_FUSION.preset("paper")
    assert (paper.batch_size, paper.crop, paper.learning_rate, paper.decay) == (32, 256, 5e-5, 0.0)
    assert (paper.noise_target, paper.fidelity, paper.muon) == ("y_hat", 0.0, 0.0)
