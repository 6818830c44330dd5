"""The auxiliary encoder: a base's analysis transform in the zoo, for training alone."""

from __future__ import annotations

import pytest
import torch
from small_models import ARCHITECTURES, OURS, picture, small_model

import compressai_gen  # noqa: F401  (fills the zoo)
from compressai_gen.checkpoints import architecture_names, build_model, load_model, save_model
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen_plugins.latent_fusion.auxiliary import AuxiliaryEncoder
from compressai_gen_plugins.latent_fusion.plugin import BASES
from compressai_gen_plugins.latent_fusion.tasks import Base

WITHOUT_FACTORY = ("cheng2020-anchor-checkerboard", "elic2022-chandelier", "elic2022-official")
NO_LATENT = ("cool-chic-v1", "cool-chic-v2", "nif")
WITH_A_DIFFUSION_PRIOR = ("diffeic-lfgcm",)
MADE_AS_ANOTHER = ("bmshj2018-factorized-relu",)  # by CompressAI's own factory


def from_zoo(base: str):
    from compressai.zoo import image_models

    return image_models[f"{base}-aux"]


@pytest.mark.parametrize("base", BASES)
def test_every_base_has_one_in_the_zoo(base: str):
    small = base in OURS or base in WITHOUT_FACTORY
    encoder = from_zoo(base)(**(ARCHITECTURES[base] if small else {}))
    assert isinstance(encoder, AuxiliaryEncoder)
    assert encoder.base == base
    x = torch.rand(1, 3, 64, 64)
    assert encoder(x).shape[-2:] == (4, 4)


def test_the_quality_is_that_of_the_base():
    assert from_zoo("mbt2018-mean")().arguments == {"N": 128, "M": 192}
    assert from_zoo("mbt2018-mean")(8).arguments == {"N": 192, "M": 320}
    with pytest.raises(OptionError, match="hific has no quality 4"):
        from_zoo("hific")(4)


def test_a_base_whose_weights_do_not_ship_says_so():
    with pytest.raises(CheckpointError, match="no trained hific ships with the package: fetch"):
        from_zoo("hific")(pretrained=True)


def test_no_architecture_is_forgotten():
    shipped = {name for name in architecture_names() if not name.endswith("-aux")}
    outside = {name for name in shipped if "tiny" in name}
    others = {*NO_LATENT, *WITH_A_DIFFUSION_PRIOR, *MADE_AS_ANOTHER}
    assert shipped - outside == {*BASES, *others}


@pytest.mark.parametrize("base", ["mbt2018", "cheng2020-anchor-vbr", "hific"])
def test_it_starts_as_a_copy_of_its_base(base: str):
    model, x = small_model(base), torch.rand(1, 3, 64, 64)
    encoder = AuxiliaryEncoder.from_base(model).eval()
    assert torch.equal(encoder(x), model.g_a(x) * encoder.scale)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert model.g_a(x).abs().max() > 0


def test_it_starts_in_the_domain_of_the_synthesis():
    """A variable-rate base learns gains whose product is not 1; at a fine step y_hat is y_bar."""
    model = small_model("cheng2020-anchor-vbr")
    torch.nn.init.normal_(model.y_gain.log2_gain, mean=6.0)
    torch.nn.init.normal_(model.y_gain.log2_inverse_gain, mean=-6.0)
    x = picture()
    encoder, base = AuxiliaryEncoder.from_base(model), Base(model, 10)
    y_hat = base.decoded(x, torch.tensor([9.0]))
    step = model.y_gain.inverse_gain(torch.tensor([9.0]))
    assert ((encoder(x) - y_hat).abs() <= 0.51 * step).all()
    assert (model.g_a(x) - y_hat).abs().max() > 10 * step.max()
    assert AuxiliaryEncoder.from_base(small_model("mbt2018")).scale.item() == 1


def test_saved_and_loaded_also_in_half_precision(tmp_path):
    encoder = AuxiliaryEncoder.from_base(small_model("mbt2018-mean")).eval()
    arguments = {"base": encoder.base, "arguments": encoder.arguments}
    x = torch.rand(1, 3, 64, 64)
    for half in (False, True):
        folder = tmp_path / f"{half}"
        save_model(encoder, folder, architecture="mbt2018-mean-aux", arguments=arguments, half=half)
        loaded = load_model(folder)
        torch.testing.assert_close(loaded(x), encoder(x), atol=0.02 * half, rtol=0.02 * half)
        again = from_zoo("mbt2018-mean")(checkpoint=folder)
        assert torch.equal(again(x), loaded(x))
    with pytest.raises(CheckpointError, match="no auxiliary encoder of mbt2018"):
        from_zoo("mbt2018")(checkpoint=folder)


def test_it_writes_no_files():
    encoder = build_model(
        "mbt2018-mean-aux", {"base": "mbt2018-mean", "arguments": {"N": 8, "M": 8}}
    )
    with pytest.raises(OptionError, match="training only: compress with mbt2018-mean"):
        encoder.compress(torch.rand(1, 3, 64, 64))
    with pytest.raises(OptionError, match="checkpoint=FOLDER"):
        AuxiliaryEncoder.from_state_dict({})
