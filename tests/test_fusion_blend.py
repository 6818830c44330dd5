"""One D that answers like two, by a share that follows the rate."""

from __future__ import annotations

import copy

import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from cgen_command import checkpoints as checkpoints
from cgen_command import work as work
from PIL import Image
from small_fusion import small_fusion
from small_models import picture, small_model
from toys import DEFAULT, pixels

from compressai_gen.codec import open_codec
from compressai_gen.errors import CheckpointError
from compressai_gen_plugins.latent_fusion.blend import BlendTask
from compressai_gen_plugins.latent_fusion.tasks import Base
from diffusers_codec.models.latent_fusion import LatentFusionModel


def pair(**options):
    """Two ends of a training: the second lies near the first."""
    first = small_fusion(16, rate_points=10, **options)
    second = copy.deepcopy(first)
    for parameter in second.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return first, second


def task(shares=(0.0, 1.0)):
    return BlendTask(*pair(), Base(small_model(DEFAULT), 10), shares)


def test_the_share_follows_the_rate():
    blend = task((0.2, 0.8))
    shares = blend.share(torch.tensor([0.0, 4.5, 9.0]))
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.8]))
    middle = blend.mixture(0.5)
    for name, value in blend.model.state_dict().items():  # which is where it starts
        torch.testing.assert_close(value, middle[name])


@pytest.mark.parametrize("quality", [0.0, 9.0])
def test_it_learns_from_the_mixture_of_the_rate(monkeypatch, quality):
    """At an end of the line the loss of that end's own module is 0, of the other it is not."""
    blend = task()
    monkeypatch.setattr(blend.base, "draw_quality", lambda x: torch.full((len(x),), quality))
    near, far = (blend.first, blend.second) if quality == 0 else (blend.second, blend.first)
    x = picture(64, 64).expand(2, -1, -1, -1)
    blend.model.load_state_dict(near.state_dict())
    assert blend(x).loss.item() < 1e-9
    blend.model.load_state_dict(far.state_dict())
    assert blend(x).loss.item() > 1e-5


def test_a_fresh_module_that_answers_with_y_hat_is_no_division_by_zero():
    first, second = pair()
    for fusion in (first, second):
        torch.nn.init.zeros_(fusion.conv_out.weight)
        torch.nn.init.zeros_(fusion.conv_out.bias)
    blend = BlendTask(first, second, Base(small_model(DEFAULT), 10), (0.0, 1.0))
    assert blend(picture(64, 64)).loss.item() == 0


def test_training_brings_it_nearer():
    blend, x, losses = task(), picture(64, 64), []
    optimizer = torch.optim.Adam(blend.model.parameters(), 1e-4)
    for _ in range(15):
        torch.manual_seed(1)  # the same rate and noise
        optimizer.zero_grad()
        loss = blend(x).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(p.grad is None for end in (blend.first, blend.second) for p in end.parameters())


def test_from_two_folders_to_one(cgen, work, checkpoints):
    (work / "photos").mkdir()
    Image.fromarray(pixels(80, 90)).save(work / "photos" / "a.png")
    codec = open_codec(checkpoint=checkpoints / DEFAULT)
    bound = {
        "base_fingerprint": codec.fingerprint.hex(),
        "base_synthesis": codec.synthesis.hex(),
    }
    for name, fusion in zip(("one", "two"), pair(**bound), strict=True):
        fusion.save_pretrained(name)
    small_fusion(16, rate_points=10, **bound, units=1).save_pretrained("other")
    small_fusion(16, **bound).save_pretrained("single")
    settings = ("--base", checkpoints / DEFAULT, "--crop", 64, "--batch-size", 2, "--steps", 2)
    train = ("train", "fusion-blend", "--data", "photos", *settings, "--out", "run")
    both = (*train, "--init", "one", "--other", "two")
    status, _, err = cgen(*both, "--share-low", 0.2, "--share-high", 0.8)
    assert status == 0, err
    assert "--fusion run/checkpoint" in err
    made = LatentFusionModel.from_pretrained("run/checkpoint")
    assert made.config.base_fingerprint == codec.fingerprint.hex()
    assert_one_line(cgen(*both, "--share-low", 0.3), "run holds a run with share_low=0.2")
    assert_one_line(cgen(*both, "--share-low", 1.5), "share-low", "1.5")
    assert_one_line(cgen(*train, "--init", "one"), "--init and --other")
    assert_one_line(cgen(*train, "--init", "one", "--other", "other"), "different settings")
    assert_one_line(cgen(*train, "--init", "single", "--other", "single"), "a single one")


def test_modules_of_a_single_rate_are_refused():
    fusion = small_fusion(16)
    with pytest.raises(CheckpointError, match="single"):
        BlendTask(fusion, fusion, Base(small_model("cheng2020-anchor"), None), (0.0, 1.0))
