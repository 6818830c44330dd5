"""DiffEIC's compression module: the released sizes, its arithmetic, strings, guidance, mistakes."""

from __future__ import annotations

import pytest
import torch
from calibrated import calibrate, drawn_latents
from small_models import picture

import compressai_gen  # noqa: F401  (fills the zoo)
from compressai_gen.checkpoints import load_model, save_model
from compressai_gen.errors import CheckpointError, CorruptedFileError, OptionError
from compressai_gen.models.channel_groups import ChannelGroups
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen.models.lfgcm_blocks import FUSIONS

SMALL = {
    "N": 16,
    "groups": [4, 4, 8],
    "stages": [8, 8, 12],
    "features": 8,
    "context": [12, 8],
}


def small(**changes):
    torch.manual_seed(0)
    model = Lfgcm(**{**SMALL, **changes})
    with torch.no_grad():
        for p in model.g_a.conv_out.parameters():
            p.mul_(40)  # so that the strings are not empty
        for p in model.h_a.conv_out.parameters():
            p.mul_(10)
    return model.eval()


def inputs(height=64, width=128, batch=1):
    x = torch.cat([picture(height, width, seed=i) for i in range(batch)])
    return x, torch.randn(
        batch, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(3)
    )


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_the_zoo_builds_the_released_model():
    from compressai.zoo import image_models

    model = image_models["diffeic-lfgcm"](quality=1)
    parts = ("g_a", "h_a", "h_s", "f_c", "g_s", "channel_groups")
    sizes = {name: millions(getattr(model, name)) for name in parts}
    published = (7.87, 8.20, 8.14, 0.60, 11.18, 15.49)
    assert tuple(round(size, 2) for size in sizes.values()) == published
    assert sum(sizes.values()) == pytest.approx(51.48, abs=0.005)
    assert model.M == 320
    for quality in (0, 6):
        with pytest.raises(OptionError, match="no quality"):
            image_models["diffeic-lfgcm"](quality=quality)
    with pytest.raises(CheckpointError, match="cgen convert diffeic"):
        image_models["diffeic-lfgcm"](quality=1, pretrained=True)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_strings_come_back_as_the_content_variable(fusion):
    model = small(fusion=fusion)
    x, guidance = inputs(batch=2)
    out = model.compress(x, guidance)
    assert [len(part) for part in out["strings"]] == [2]
    assert out["shape"] == (1, 2)
    z_c = model.decompress(**out)["z_c"]
    assert z_c.shape == guidance.shape
    y, z = model.analysis(x, guidance)
    encoded = model.portable.encode(y, z)
    y_hat, z_hat = (torch.cat([getattr(e, n) for e in encoded]) for n in ("y_hat", "z_hat"))
    torch.testing.assert_close(z_c, model.synthesis(y_hat, z_hat).detach())
    # the means are on the grid of the fixed point, so y_hat moves by up to 0.01
    torch.testing.assert_close(z_c, model(x, guidance)["z_c"].detach(), atol=0.05, rtol=0.02)


@torch.no_grad()
def test_real_strings_have_the_estimated_size():
    model = calibrate(small())
    z, y = drawn_latents(model.entropy_networks(), 4, 6)
    (encoded,) = model.entropy_path().encode(y, z)
    medians = model.entropy_bottleneck.quantiles[:, :, 1:2]
    z_hat = (z - medians).round() + medians
    _, scales_hat, means_hat = model.channel_groups(y, model.h_s(z_hat))
    y_hat = (y - means_hat).round() + means_hat
    likelihoods = (
        model.entropy_bottleneck(z_hat)[1],
        model.gaussian_conditional(y_hat, scales_hat, means=means_hat)[1],
    )
    size = sum(-p.log2().sum().item() for p in likelihoods) / 8
    assert size > 1000
    assert abs(len(encoded.string) - size) < 0.005 * size + 16


def test_guidance_changes_the_latents_and_can_be_left_out():
    x, guidance = inputs()
    model, without = small(), small(guidance=False)
    assert not torch.equal(model.analysis(x, guidance)[0], model.analysis(x, 2 * guidance)[0])
    assert without.f_c is None
    assert torch.equal(without.analysis(x)[0], without.analysis(x, guidance)[0])
    assert without.decompress(**without.compress(x))["z_c"].shape == guidance.shape


def test_the_groups_see_what_a_decoder_sees():
    """Parameters of a position do not depend on anything that is coded after it."""
    torch.manual_seed(0)
    groups = ChannelGroups((2, 3), 5, (4, 4))
    y, side = torch.randn(1, 5, 6, 6) * 4, torch.randn(1, 5, 6, 6)
    _, scales, means = groups(y, side)
    odd = (torch.arange(6)[:, None] + torch.arange(6)) % 2 == 1
    passes = [(slice(0, 2), odd), (slice(0, 2), ~odd), (slice(2, 5), odd), (slice(2, 5), ~odd)]
    for now in range(4):
        changed = y.clone()
        for channels, where in passes[now:]:
            changed[:, channels, where] += 7.25
        _, other_scales, other_means = groups(changed, side)
        channels, where = passes[now]
        for a, b in ((scales, other_scales), (means, other_means)):
            torch.testing.assert_close(a[:, channels, where], b[:, channels, where])
        if now < 3:
            later, places = passes[now + 1]
            assert not torch.allclose(means[:, later, places], other_means[:, later, places])


def test_saved_loaded_and_read_off_a_state_dict(tmp_path):
    for changes in ({}, {"guidance": False}, {"fusion": "addition"}, {"fusion": "cross-attention"}):
        model = small(**changes)
        x, guidance = inputs()
        strings = model.compress(x, guidance)["strings"]
        folder = tmp_path / "_".join(map(str, changes.values())) / "model"
        arguments = {**SMALL, **changes}
        save_model(model, folder, architecture="diffeic-lfgcm", arguments=arguments, half=True)
        loaded = load_model(folder)
        assert loaded.portable.fingerprint() == model.portable.fingerprint()
        y_hat = torch.randn(1, 16, 4, 8)
        z_hat = torch.randn(1, 16, 1, 2)
        torch.testing.assert_close(
            loaded.synthesis(y_hat, z_hat), model.synthesis(y_hat, z_hat), atol=1e-2, rtol=1e-2
        )
        same = Lfgcm.from_state_dict(model.state_dict())
        same.add_module("portable", model.portable)
        assert same.compress(x, guidance)["strings"] == strings
    with pytest.raises(CheckpointError, match="cgen convert diffeic"):
        Lfgcm.from_state_dict({"encoder.g_a1.0.conv1.weight": torch.zeros(1)})


def test_mistakes_are_told():
    model = small()
    x, guidance = inputs()
    with pytest.raises(OptionError, match=r"needs guidance.*\(1, 4, 8, 16\)"):
        model.compress(x)
    with pytest.raises(OptionError, match="an eighth of the resolution"):
        model.compress(x, guidance[:, :3])
    with pytest.raises(OptionError, match="fusion 'sum'"):
        Lfgcm(**{**SMALL, "fusion": "sum"})
    with pytest.raises(OptionError, match="positive"):
        Lfgcm(**{**SMALL, "groups": [0, 8]})
    out = model.compress(x, guidance)
    with pytest.raises(CorruptedFileError):
        model.decompress([[out["strings"][0][0][:8]]], out["shape"])


def test_gradients_reach_every_weight():
    model = small().train()
    x, guidance = inputs(batch=2)
    out = model(x, guidance)
    bits = sum(-p.log2().sum() for p in out["likelihoods"].values())
    (bits + out["z_c"].square().sum()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None and "quantiles" not in n]
    assert not missing
