"""A model of another width begins with the function of the trained one."""

from __future__ import annotations

import pytest
import torch

from compressai_gen.checkpoints import save_model
from compressai_gen.errors import CheckpointError
from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr
from compressai_gen.plugins import registry
from compressai_gen.training.optimizers import ConvolutionMuon, Optimizers
from compressai_gen.training.variable_rate import initial_model
from compressai_gen.training.warm_start import warm_start

SMALL = {"N": 16, "stages": [8, 12, 12], "hyper": 8}


def trained(**changes):
    torch.manual_seed(0)
    model = Cheng2020AnchorVbr(**{**SMALL, **changes})
    torch.nn.init.normal_(model.y_gain.log2_gain)
    return model.eval()


@torch.no_grad()
def test_a_wider_latent_keeps_the_transforms():
    old, new = trained(), Cheng2020AnchorVbr(**{**SMALL, "N": 24}).eval()
    warm_start(new, old)
    x, y, extra = torch.rand(1, 3, 64, 64), torch.randn(1, 16, 4, 4), torch.randn(1, 8, 4, 4)
    wide = torch.cat([y, extra], 1)
    torch.testing.assert_close(new.g_a(x)[:, :16], old.g_a(x))
    torch.testing.assert_close(new.g_s(wide), old.g_s(y))
    torch.testing.assert_close(new.h_a(wide), old.h_a(y))
    assert torch.equal(new.y_gain.log2_gain[:, :16], old.y_gain.log2_gain)
    expected = old.y_gain.log2_gain.mean(1, keepdim=True).expand(-1, 8)
    torch.testing.assert_close(new.y_gain.log2_gain[:, 16:], expected)
    assert new.g_a(x)[:, 16:].std() > 0


@torch.no_grad()
def test_a_wider_latent_keeps_what_is_known_of_the_old_channels():
    old, new = trained(), Cheng2020AnchorVbr(**{**SMALL, "N": 24, "stages": [8, 12, 20]}).eval()
    warm_start(new, old)
    x = torch.rand(1, 3, 128, 128)
    for quality in (0.0, 6.5):
        expected, out = old(x, quality), new(x, quality)
        torch.testing.assert_close(out["likelihoods"]["y"][:, :16], expected["likelihoods"]["y"])
        torch.testing.assert_close(out["likelihoods"]["z"], expected["likelihoods"]["z"])
        torch.testing.assert_close(out["x_hat"], expected["x_hat"])


def test_the_new_channels_learn():
    new = Cheng2020AnchorVbr(**{**SMALL, "N": 24})
    warm_start(new, trained())
    new.g_s(torch.randn(1, 24, 4, 4)).square().sum().backward()
    assert new.g_s[1].upsample[0].weight.grad[:, 16:].abs().sum() > 0


@torch.no_grad()
def test_wider_stages_and_a_narrower_latent_fit_too():
    old = trained()
    for changes in ({"stages": [12, 16, 20]}, {"N": 8}, {"hyper": 4}):
        new = Cheng2020AnchorVbr(**{**SMALL, **changes})
        warm_start(new, old)
        assert new(torch.rand(1, 3, 64, 64), 3.0)["x_hat"].isfinite().all()
    assert torch.equal(new.g_a[6].weight, old.g_a[6].weight)


def test_from_the_command(tmp_path):
    folder = tmp_path / "old"
    model = trained()
    model.export()
    save_model(model, folder, architecture="cheng2020-anchor-vbr", arguments=SMALL)
    recipe = registry("recipes").load("cheng2020-anchor-vbr").preset("small")
    wider = initial_model(recipe.replace(arguments={**SMALL, "N": 24}), str(folder))
    assert wider.N == 24
    assert wider.portable is None
    assert torch.equal(wider.g_a[0].conv1.weight, model.g_a[0].conv1.weight)
    same = initial_model(recipe.replace(arguments=SMALL), str(folder))
    assert torch.equal(same.h_s[0].weight, model.h_s[0].weight)
    with pytest.raises(CheckpointError, match="10 rate points, the run asks for 6"):
        initial_model(recipe.replace(arguments={**SMALL, "N": 24, "levels": 6}), str(folder))


def test_sub_modules_left_to_adam():
    model = trained()
    optimizers = Optimizers(model, 1e-3, 1e-2, adam=("h_s", "context_prediction"))
    (muon,) = [o for o in optimizers.all if isinstance(o, ConvolutionMuon)]
    chosen = {id(w) for w in muon.weights}
    assert id(model.g_a[6].weight) in chosen
    assert id(model.entropy_parameters[0].weight) in chosen
    assert id(model.h_s[0].weight) not in chosen
    assert id(model.context_prediction.weight) not in chosen
