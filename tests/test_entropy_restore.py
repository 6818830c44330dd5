"""Checkpoints that hold their entropy networks once, as integers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import ARCHITECTURES, PORTABLE, picture
from toys import DEFAULT, exported

from compressai_gen.checkpoints import compressai_state_dict, load_model, save_model
from compressai_gen.checkpoints.weights import stored_as_integers
from compressai_gen.entropy.restore import float_weights
from compressai_gen.errors import CheckpointError
from diffusers_codec.models.compression_model import CompressionModelComponent

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("architecture", PORTABLE)
def test_the_integers_hold_the_weights(architecture: str):
    """To half a step of 16 bits; what a mask hides is zero."""
    model = exported(architecture)
    own, values = model.state_dict(), float_weights(model)
    assert any("h_s." in name for name in values)
    has_context = any("context_prediction" in name for name in values)
    assert has_context == ("checkerboard" in architecture or architecture.startswith("cheng2020"))
    for name, value in values.items():
        trained = own[name]
        if "context_prediction.weight" in name:
            trained = trained * model.get_submodule(name.removesuffix(".weight")).mask
        assert value.shape == trained.shape
        step = trained.abs().max() * 2.0**-14
        assert (value - trained).abs().max() <= step, name
    assert any(not torch.equal(value, own[name]) for name, value in values.items())


@pytest.fixture
def compact(tmp_path):
    """The default model, and its folder in half precision."""
    model = exported(DEFAULT)
    options = {"architecture": DEFAULT, "arguments": ARCHITECTURES[DEFAULT]}
    return model, save_model(model, tmp_path / "compact", half=True, **options)


def test_they_are_left_out_and_come_back(compact):
    model, folder = compact
    stored = load_file(folder / WEIGHTS)
    names = stored_as_integers(model)
    assert len(names) > 10
    assert not names.intersection(stored)
    loaded = load_model(folder)
    for name in names:
        torch.testing.assert_close(
            loaded.state_dict()[name], float_weights(model)[name], atol=0, rtol=0
        )
    x = picture()
    estimates = [
        sum(-p.log2().sum() for p in m(x, 4.0)["likelihoods"].values()) for m in (model, loaded)
    ]
    torch.testing.assert_close(*estimates, rtol=0.02, atol=0)
    assert names.issubset(compressai_state_dict(folder))


def test_files_are_the_same(compact):
    model, folder = compact
    x, loaded = picture(), load_model(folder)
    y, z = model.analysis(x, torch.tensor([3.0]))
    ours, theirs = (m.portable.encode(y, z, 3.0)[0] for m in (model, loaded))
    assert ours.string == theirs.string


def test_as_a_component(compact):
    _, folder = compact
    component = CompressionModelComponent.from_pretrained(folder)
    loaded = load_model(folder)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(component.model.state_dict()[name], tensor), name


def test_other_tensors_may_not_be_left_out(compact):
    _, folder = compact
    stored = load_file(folder / WEIGHTS)
    del stored["g_s.0.conv1.weight"]
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"g_s\.0\.conv1\.weight"):
        load_model(folder)
    with pytest.raises(CheckpointError, match="1 tensors missing"):
        CompressionModelComponent.from_pretrained(folder)
