"""The variable-rate models: gains, rate points, CompressAI's interfaces, weights taken over."""

from __future__ import annotations

import pytest
import torch
from compressai.models import Cheng2020Anchor, Cheng2020Attention, MeanScaleHyperprior

from compressai_gen.errors import NotPortableError, OptionError
from compressai_gen.models.cheng2020_vbr import (
    Cheng2020AnchorVbr,
    Cheng2020AttentionVbr,
    checkerboard,
)
from compressai_gen.models.gain import GainUnit, check_quality
from compressai_gen.models.hyperprior_vbr import (
    MeanScaleHyperpriorGainVbr,
    ScaleHyperpriorGainVbr,
)
from compressai_gen.models.latents import analysis, entropy_networks, synthesis, ungained

MODELS = {
    "anchor": lambda: Cheng2020AnchorVbr(N=16),
    "stages": lambda: Cheng2020AnchorVbr(N=16, stages=[8, 12, 20], hyper=12),
    "attention": lambda: Cheng2020AttentionVbr(N=16),
    "hyperprior": lambda: ScaleHyperpriorGainVbr(N=16, M=24),
    "mean-scale": lambda: MeanScaleHyperpriorGainVbr(N=16, M=24),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def random_gains(channels: int = 5) -> GainUnit:
    unit = GainUnit(channels)
    torch.nn.init.normal_(unit.log2_gain)
    torch.nn.init.normal_(unit.log2_inverse_gain)
    return unit


def test_gains_interpolate_exponentially():
    """Cui et al., eq. 8: m_v = m_r^(1-f) * m_(r+1)^f, for gain and inverse gain alike."""
    unit = random_gains()
    for values in (unit.gain, unit.inverse_gain):
        low, high = values(torch.tensor([3.0])), values(torch.tensor([4.0]))
        between = values(torch.tensor([3.25]))
        torch.testing.assert_close(between, low**0.75 * high**0.25)
        assert between.shape == (1, 5, 1, 1)
        assert (between > 0).all()


def test_gains_at_both_ends():
    unit = random_gains()
    ends = unit.gain(torch.tensor([0.0, 9.0])).flatten(1)
    torch.testing.assert_close(ends, unit.log2_gain[[0, 9]].exp2())


def test_initial_gains_are_reciprocal_and_rise():
    unit = GainUnit(3, log2_span=3.0)
    quality = torch.linspace(0, 9, 7)
    gain = unit.gain(quality)
    torch.testing.assert_close(gain * unit.inverse_gain(quality), torch.ones_like(gain))
    assert (gain.diff(dim=0) > 0).all()


@pytest.mark.parametrize("quality", [-0.01, 9.01, float("nan"), float("inf")])
def test_quality_out_of_range_says_what_is_allowed(quality):
    with pytest.raises(OptionError, match=r"from 0 .* to 9"):
        check_quality(quality)


def test_quality_is_rounded_to_what_the_header_holds():
    assert check_quality(2.5) == 2.5
    assert check_quality(1 / 3) == 85 / 256


def test_forward_has_a_rate_point_per_picture(model):
    x = torch.rand(2, 3, 64, 128)
    both = model(x, torch.tensor([0.0, 9.0]))
    low, high = model(x[:1], 0), model(x[1:], 9)
    assert both["x_hat"].shape == x.shape
    torch.testing.assert_close(both["x_hat"], torch.cat([low["x_hat"], high["x_hat"]]))
    y = both["likelihoods"]["y"]
    torch.testing.assert_close(y[:1], low["likelihoods"]["y"], rtol=1e-3, atol=1e-4)


def test_estimated_rate_rises_with_quality(model):
    model.y_gain.log2_gain.data += 6  # random weights give tiny latents
    x = torch.rand(1, 3, 64, 64)
    bits = [
        sum(-p.log2().sum().item() for p in model(x, q)["likelihoods"].values()) for q in (0, 5, 9)
    ]
    assert bits[0] < bits[1] < bits[2]


def test_every_parameter_gets_a_gradient(model):
    model.train()
    out = model(torch.rand(2, 3, 64, 64), torch.tensor([0.5, 7.5]))
    loss = out["x_hat"].square().mean() - sum(p.log().mean() for p in out["likelihoods"].values())
    (loss + model.aux_loss()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_vbr_protocol_maps_inputscale_monotonically(model):
    """eval_model passes tensors 1/step; 1 is the best quality, 0.1 the lowest rate."""
    scales = [0.01, 0.1, 0.3, 0.5, 1.0, 2.0]
    q = [model.rate_point(None, 0, torch.tensor([s])).item() for s in scales]
    assert q == sorted(q)
    assert (q[0], q[1], q[4], q[5]) == (0, 0, 9, 9)
    assert 0 < q[2] < q[3] < 9
    assert model.rate_point(None, 3, None).item() == 3
    assert model.rate_point(None, None, None).item() == model.quality


def test_anchors_do_not_see_the_context():
    model = MODELS["anchor"]().eval()
    y = torch.randn(1, 16, 4, 4) * 3
    params = torch.randn(1, 32, 4, 4)
    _, likelihoods = model.quantize_y(y, params)
    other = y + (1 - checkerboard(y)) * torch.randn_like(y)
    _, changed = model.quantize_y(other, params)
    anchors = checkerboard(y).bool().expand_as(y)
    assert torch.equal(likelihoods[anchors], changed[anchors])
    assert not torch.equal(likelihoods[~anchors], changed[~anchors])


def test_y_hat_is_means_plus_integers():
    model = MODELS["anchor"]().eval()
    y, params = torch.randn(1, 16, 4, 6) * 3, torch.randn(1, 32, 4, 6)
    y_hat, _ = model.quantize_y(y, params)
    assert (y_hat - y).abs().max() <= 0.5 + 1e-5


def test_state_dict_round_trip(model):
    copy = type(model).from_state_dict(model.state_dict()).eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(copy(x, 3)["x_hat"], model(x, 3)["x_hat"])


@pytest.mark.parametrize(
    ("stock", "ours"),
    [
        (lambda: Cheng2020Anchor(N=16), Cheng2020AnchorVbr),
        (lambda: Cheng2020Attention(N=16), Cheng2020AttentionVbr),
        (lambda: MeanScaleHyperprior(16, 24), MeanScaleHyperpriorGainVbr),
    ],
)
def test_stock_weights_are_taken_over(stock, ours):
    """Same transforms; the context convolution keeps the serial taps on the checkerboard."""
    torch.manual_seed(1)
    stock = stock().eval()
    model = ours.from_state_dict(stock.state_dict()).eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.g_a(x), stock.g_a(x))
    y = torch.randn(1, model.y_gain.log2_gain.size(1), 4, 4)
    assert torch.equal(model.g_s(y), stock.g_s(y))
    if hasattr(stock, "context_prediction"):
        taps = model.context_prediction.weight.abs().sum((0, 1)) > 0
        expected = torch.tensor(
            [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0] * 5, [0] * 5]
        ).bool()
        assert torch.equal(taps, expected)
        assert model.context_prediction.mask[0, 0].sum() == 12


def test_latents_of_stock_and_own_models(model):
    x = torch.rand(1, 3, 64, 128)
    y, z = analysis(model, x, 2.0)
    assert (y.shape[-2:], z.shape[-2:]) == ((4, 8), (1, 2))
    assert synthesis(model, ungained(model, y, 2.0)).shape == x.shape
    assert entropy_networks(model).z_log2_inverse_gain.shape[0] == 10


def test_serial_context_is_not_portable():
    with pytest.raises(NotPortableError, match="serial"):
        entropy_networks(Cheng2020Anchor(N=16))


def test_the_default_quality_fits_the_number_of_rate_points():
    from compressai_gen.models.zoo import mbt2018_mean_gain_vbr as factory

    small = {"N": 8, "M": 8}
    assert factory(**small).quality == 4
    assert factory(levels=3, **small).quality == 2
    with pytest.raises(OptionError, match="quality 4 is out of range"):
        factory(4, levels=3, **small)


@pytest.mark.parametrize("before", [False, True])
def test_a_synthesis_adds_in_the_same_order_every_time(model, before, monkeypatch):
    """Also on a GPU, where cuDNN has to be asked for it; nobody else's setting is touched."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", before)
    asked = []
    model.g_s.register_forward_pre_hook(lambda *_: asked.append(torch.backends.cudnn.deterministic))
    channels = analysis(model, torch.rand(1, 3, 64, 64), 3)[0].shape[1]
    synthesis(model, torch.randn(1, channels, 4, 4))
    with pytest.raises(RuntimeError):
        synthesis(model, torch.randn(1, channels + 1, 4, 4))
    assert asked == [True, True]
    assert torch.backends.cudnn.deterministic is before
