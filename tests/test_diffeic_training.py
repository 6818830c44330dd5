"""`cgen train diffeic`: both modules on a frozen prior, the refinement, the collapse of Fig. 11."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from small_diffeic import CODEC, small_unet, small_vae, steering
from small_diffeic import photos as photos
from small_models import picture

import compressai_gen  # noqa: F401  (makes the pipelines known)
from compressai_gen.cli.main import main
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.losses.loading import load_loss
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen_plugins.diffeic.recipe import DIFFEIC
from compressai_gen_plugins.diffeic.runs import start
from compressai_gen_plugins.diffeic.tasks import DiffEICTask, RefineTask, Trained
from diffusers_codec import DiffEICControlModel
from diffusers_codec.models.autoencoders import encode
from diffusers_codec.pipelines.diffeic import default_scheduler

QUICK = {
    "arguments": CODEC,
    "batch_size": 2,
    "crop": 64,
    "minutes": 60,
    "steps": 2,
    "control_ratio": 0.5,
}


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    small_vae().save_pretrained(folder / "vae")
    small_unet().save_pretrained(folder / "unet")
    default_scheduler().save_pretrained(folder / "scheduler")
    return str(folder)


def make(task=DiffEICTask, **options):
    """A task with a codec that spends bits, and a VAE whose latents have unit variance."""
    torch.manual_seed(0)
    unet, vae = small_unet(), small_vae()
    trained = Trained(Lfgcm(**CODEC), DiffEICControlModel.from_unet(unet, 0.5))
    with torch.no_grad():
        for parameter in trained.codec.g_a.conv_out.parameters():
            parameter.mul_(40)
        z_0 = encode(vae, batch()) / vae.config.scaling_factor
    spread = (z_0 - z_0.mean((0, 2, 3), keepdim=True)).std().item()
    vae.register_to_config(shift_factor=z_0.mean().item(), scaling_factor=1 / spread)
    return task(trained, vae, unet, default_scheduler(), **{"multiplier": 1.0, **options})


def batch():
    return torch.cat([picture(64, 64, seed=i) for i in range(4)])


def learn(task, steps, rate):
    """Rows of the log, one a step, on one batch."""
    chosen = [p for n, p in task.model.named_parameters() if not n.endswith("quantiles")]
    optimizer = torch.optim.Adam(chosen, rate)
    rows = []
    for _ in range(steps):
        out = task(batch())
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rows.append({name: float(value.detach().mean()) for name, value in out.columns.items()})
    return rows


def test_a_run_ends_in_a_pipeline(photos, prior, tmp_path):
    folder = DIFFEIC.train(photos, tmp_path, prior=prior, **QUICK)
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    image = pipe.decompress(pipe.compress(picture(72, 100)), num_inference_steps=2)
    assert image.size == (100, 72)
    assert torch.equal(pipe.unet.conv_in.weight, small_unet().conv_in.weight)  # frozen
    # it goes on where it was, and another run can start from it
    again = DIFFEIC.train(photos, tmp_path, prior=prior, **{**QUICK, "steps": 3})
    assert again == folder
    rate = {**QUICK, "multiplier": 4.0}
    DIFFEIC.train(photos, tmp_path / "rate", prior=prior, init=str(folder), **rate)
    with pytest.raises(OptionError, match="holds a run with control_ratio"):
        DIFFEIC.train(photos, tmp_path, prior=prior, **{**QUICK, "control_ratio": 0.25})


def test_the_refinement_starts_from_a_run(photos, prior, tmp_path):
    first = DIFFEIC.train(photos, tmp_path / "a", prior=prior, **QUICK)
    folder = DIFFEIC.train(
        photos,
        tmp_path / "b",
        preset="small-refine",
        prior=prior,
        init=str(first),
        loss="mse",
        loss_weight=1e-4,
        **{k: v for k, v in QUICK.items() if k != "arguments"},
    )
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "DiffEICPipeline"
    assert index["start"] == 0.3
    assert index["scheduler"][1] == "DDIMScheduler"
    assert start(DIFFEIC.presets["small"], small_unet(), str(folder)).training
    assert json.loads((first / "model_index.json").read_text())["start"] == 1.0
    assert main(["train", "diffeic", "--data", str(photos), "--out", str(tmp_path / "c")]) == 1


def test_the_control_module_alone(photos, prior, tmp_path):
    """The files stay as they are."""
    first = DIFFEIC.train(photos, tmp_path / "a", prior=prior, **QUICK)
    options = {k: v for k, v in QUICK.items() if k != "arguments"}
    options |= {"preset": "small-refine", "loss": "mse", "prior": prior, "control_only": True}
    second = DIFFEIC.train(photos, tmp_path / "b", init=str(first), **options)
    a, b = (DiffusionPipeline.from_pretrained(folder) for folder in (first, second))
    assert a.codec.config.fingerprint == b.codec.config.fingerprint
    for old, new in zip(a.codec.parameters(), b.codec.parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(a.control.middle_conv.weight, b.control.middle_conv.weight)


def test_half_precision_is_half_the_size(photos, prior, tmp_path):
    pictures, sizes, names = [], [], []
    for half in (False, True):  # the second time there is nothing left to train
        folder = DIFFEIC.train(photos, tmp_path, prior=prior, half=half, **QUICK)
        pipe = DiffusionPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        assert pipe.unet.dtype == pipe.control.dtype == torch.float32
        file = pipe.compress(picture(72, 100))
        pictures.append(pipe.decompress(file, num_inference_steps=2, output_type="pt"))
        sizes.append({f.parent.name: f.stat().st_size for f in folder.rglob("*.safetensors")})
        names.append(pipe.codec.config.fingerprint)
    assert all(sizes[1][part] < 0.55 * sizes[0][part] for part in ("unet", "control"))
    assert sizes[1]["vae"] < 0.6 * sizes[0]["vae"]  # a third of so small a one is its header
    assert sizes[1]["codec"] < 0.8 * sizes[0]["codec"]  # most of so small a one are tables
    assert names[0] == names[1]  # of the integers
    assert 0 < (pictures[0] - pictures[1]).abs().max() < 0.02


def test_without_the_space_alignment_the_rate_collapses():
    """Fig. 11, in small: nothing else asks the codec to say anything."""
    with_it = learn(make(multiplier=0.1), 120, 2e-3)
    without = learn(make(multiplier=0.1, alignment=0.0), 80, 2e-3)
    assert with_it[-1]["alignment"] < 0.05 * with_it[0]["alignment"]
    assert without[-1]["alignment"] > 0.5 * without[0]["alignment"]
    assert without[-1]["bits_per_pixel"] < 0.5 * with_it[-1]["bits_per_pixel"]
    # with it the rate has come to rest, without it goes on falling
    assert with_it[-1]["bits_per_pixel"] > 0.9 * with_it[-40]["bits_per_pixel"]
    assert without[-1]["bits_per_pixel"] < 0.8 * without[-40]["bits_per_pixel"]


def test_fresh_the_noise_estimation_is_the_priors_own():
    task = make()
    z_0, time = torch.randn(4, 4, 8, 8), torch.tensor([0, 9, 99, 999])
    said = task.predict(z_0, time, z_0)
    task.injection.set(None)
    own = task.unet(z_0, time, task.model.control.prompt.expand(4, -1, -1)).sample
    assert torch.equal(said, own)


def test_the_control_module_learns_and_the_prior_does_not():
    task = make()
    frozen = [p.clone() for p in (*task.unet.parameters(), *task.vae.parameters())]
    learn(task, 2, 1e-2)
    for before, now in zip(frozen, (*task.unet.parameters(), *task.vae.parameters()), strict=True):
        assert torch.equal(before, now)
    assert task.model.control.middle_conv.weight.abs().sum() > 0


def test_the_refinement_improves_the_picture():
    task = make(
        RefineTask, loss=load_loss("mse"), loss_weight=0.0, steps=2, start=0.3, alignment=0.0
    )
    rows = learn(task, 50, 1e-3)  # nothing bounds z_c here: at 1e-2 it grows until it overflows
    first, last = (sum(r["squared error"] for r in part) / 5 for part in (rows[:5], rows[-5:]))
    assert last < 0.9 * first


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_unrolled_steps_are_those_of_ddim(kind, monkeypatch):
    scheduler = DDIMScheduler.from_config(
        default_scheduler().config, prediction_type=kind, set_alpha_to_one=False
    )
    task = make(RefineTask, loss=load_loss("mse"), loss_weight=0.0, steps=2, start=0.3)
    monkeypatch.setattr(task, "scheduler", scheduler)
    monkeypatch.setattr(task, "predict", lambda noisy, time, z_c: noisy.sin())
    scheduler.set_timesteps(4)  # 750, 500, 250, 0
    z, noise = torch.randn(2, 1, 4, 8, 8)
    stock = scheduler.add_noise(z, noise, torch.tensor([500]))
    for time in (500, 250):
        stock = scheduler.step(stock.sin(), time, stock).prev_sample
        z, noise = task.separated(z, noise, torch.tensor([time]), z)
    ours = scheduler.add_noise(z, noise, torch.tensor([0]))
    assert torch.allclose(ours, stock, atol=1e-5)


def test_v_prediction_has_another_target():
    scheduler = default_scheduler()
    scheduler.register_to_config(prediction_type="v_prediction")
    unet = small_unet()
    trained = Trained(Lfgcm(**CODEC), steering(unet))
    tasks = make(), DiffEICTask(trained, small_vae(), unet, scheduler, multiplier=1.0)
    for task in tasks:
        assert task(batch()).loss.isfinite()


def test_mistakes_are_told(photos, prior, tmp_path):
    cases = (
        ({"prior": None}, OptionError, "no prior to train on"),
        ({"prior": str(tmp_path)}, CheckpointError, "no prior in"),
        ({"init": str(tmp_path)}, CheckpointError, "no DiffEIC pipeline in"),
        ({"alignment": -1.0}, OptionError, "not negative"),
        ({"unrolled": 0}, OptionError, "unrolled"),
    )
    for number, (changes, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            DIFFEIC.train(photos, tmp_path / str(number), **{"prior": prior, **QUICK, **changes})
