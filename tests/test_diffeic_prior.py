"""`cgen train prior`: an autoencoder in a teacher's latent space, and a UNet on its latents."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    AutoModel,
    DDPMScheduler,
    UNet2DConditionModel,
)
from small_diffeic import photos as photos
from small_diffeic import small_unet, small_vae, tiny_vae

from compressai_gen.cli.main import main
from compressai_gen.errors import CheckpointError, MissingWeightsError, OptionError
from compressai_gen.losses.loading import load_loss
from compressai_gen_plugins.diffeic.prior import PRIOR, autoencoder, denoiser, tiny_autoencoder
from compressai_gen_plugins.diffeic.prior_tasks import NoiseTask, VaeTask
from diffusers_codec.models.autoencoders import encode

ARGUMENTS = {
    "vae": tiny_autoencoder(8),
    "unet": {**denoiser((16, 32), 1, 1), "cross_attention_dim": 8, "norm_num_groups": 8},
}
QUICK = {
    "arguments": ARGUMENTS,
    "batch_size": 2,
    "crop": 64,
    "unet_crop": 64,
    "unet_batch": 2,
    "draws": 2,
    "loss": "mse",
    "loss_weight": 1e-4,
    "minutes": 60,
    "steps": 2,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    tiny_vae().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prior(photos, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return PRIOR.train(photos, out, teacher=teacher, half=True, **QUICK)


def batch():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def learn(task, steps, rate, column="loss"):
    """First and last mean of a column of a task's log, on one batch."""
    optimizer = torch.optim.Adam(task.model.parameters(), rate)
    losses = []
    for step in range(steps):
        torch.manual_seed(step % 4)
        out = task(batch())
        out.loss.backward()
        losses.append(out.columns[column].mean())
        optimizer.step()
        optimizer.zero_grad()
    return sum(losses[:4]).item() / 4, sum(losses[-4:]).item() / 4


def test_both_stages_give_a_folder_of_stock_parts(prior, photos, teacher):
    vae = AutoModel.from_pretrained(str(prior / "vae"))
    unet = UNet2DConditionModel.from_pretrained(prior / "unet")
    scheduler = DDPMScheduler.from_pretrained(prior / "scheduler")
    assert isinstance(vae, AutoencoderTiny)
    z = encode(vae, batch())
    assert z.shape == (2, 4, 8, 8)
    assert unet(z, torch.tensor(3), torch.zeros(2, 1, 8)).sample.isfinite().all()
    assert scheduler.config.timestep_spacing == "linspace"
    weights = (prior / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert weights < 2.2 * sum(p.numel() for p in unet.parameters())


def test_the_large_autoencoder_draws_its_mean(photos, teacher, tmp_path):
    """As a teacher without a posterior."""
    options = {**QUICK, "arguments": {"vae": autoencoder((16, 16, 16, 16), 1)}}
    out = PRIOR.train(photos, tmp_path, preset="large", teacher=teacher, stage="vae", **options)
    vae = AutoModel.from_pretrained(str(out / "vae"))
    assert isinstance(vae, AutoencoderKL)
    drawn = vae.encode(2 * batch() - 1).latent_dist.sample()
    torch.testing.assert_close(drawn, encode(vae, batch()), atol=1e-5, rtol=0)


def test_a_stage_alone_and_starting_from_another_prior(prior, photos, teacher, tmp_path):
    out = PRIOR.train(
        photos, tmp_path / "a", teacher=teacher, init=str(prior), stage="vae", **QUICK
    )
    assert not (out / "unet").exists()
    with pytest.raises(CheckpointError, match="train it first"):
        PRIOR.train(photos, tmp_path / "b", teacher=teacher, stage="unet", **QUICK)
    with pytest.raises(CheckpointError, match="no vae in"):
        PRIOR.train(photos, tmp_path / "c", teacher=teacher, init=str(tmp_path), **QUICK)


def test_the_autoencoder_learns_the_teachers_latents():
    torch.manual_seed(0)
    student = AutoencoderTiny(**ARGUMENTS["vae"])
    task = VaeTask(student, tiny_vae(), load_loss("mse"), 1e-5, 1.0)
    before, after = learn(task, 60, 5e-3, "latent error")
    assert after < 0.6 * before
    assert all(p.grad is None for p in task.teacher.parameters())


def test_latents_are_used_again_over_the_next_steps():
    task = NoiseTask(small_unet(), small_vae(), draws=8, gamma=5.0)
    first, second = torch.rand(2, 1, 3, 64, 64)
    own, other = (encode(task.vae, x) for x in (first, second))
    assert torch.allclose(task.latents(first), own.expand(8, -1, -1, -1), atol=1e-5)
    torch.manual_seed(0)
    z = task.latents(second)
    assert torch.allclose(z[:1], other, atol=1e-5)
    is_first, is_second = ((z - known).abs().amax((1, 2, 3)) < 1e-5 for known in (own, other))
    assert is_first.any()
    assert is_second[1:].any()
    assert (is_first | is_second).all()


def test_the_unet_learns_the_noise():
    torch.manual_seed(0)
    task = NoiseTask(small_unet(), small_vae(), draws=2, gamma=5.0)
    before, after = learn(task, 40, 3e-3)
    assert after < 0.8 * before
    times = task.times(8, torch.device("cpu")).sort().values
    assert times.diff().min() >= 124  # evenly spaced
    ratio = task.alphas / (1 - task.alphas)
    weights = task.weights(torch.arange(1000))
    torch.testing.assert_close(weights * ratio, ratio.clamp(max=5.0))


def test_mistakes_are_told(photos, teacher, tmp_path, capsys):
    three = tmp_path / "three"
    small_vae(latent_channels=3).save_pretrained(three)
    cases = (
        ({"stage": "all"}, OptionError, "stage 'all'"),
        ({"autoencoder": "VQModel"}, OptionError, "give one of AutoencoderKL, AutoencoderTiny"),
        ({"vae_share": 1.0}, OptionError, "vae share"),
        ({"unet_crop": 100}, OptionError, "multiple of 64"),
        ({"arguments": {"vae": 3}}, OptionError, "give a dictionary"),
        ({"teacher": str(tmp_path / "nobody")}, MissingWeightsError, "--teacher"),
        ({"teacher": str(three)}, OptionError, "3 latent channels"),
    )
    for number, (changes, error, message) in enumerate(cases):
        options = {**QUICK, "teacher": teacher, **changes}
        with pytest.raises(error, match=message):
            PRIOR.train(photos, tmp_path / f"run{number}", **options)
    arguments = ["train", "prior", "--data", str(photos), "--teacher", str(tmp_path / "nobody")]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--loss", "mse"]) == 1
    assert "taesd" in capsys.readouterr().err
