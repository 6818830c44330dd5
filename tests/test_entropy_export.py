from __future__ import annotations

import json
from decimal import Decimal, getcontext

import pytest
import torch
from calibrated import calibrate, drawn_latents
from compressai.models import Cheng2020Anchor, JointAutoregressiveHierarchicalPriors
from compressai.models.sensetime import Cheng2020AnchorCheckerboard
from float_entropy import float_parameters
from torch import nn

from compressai_gen.entropy import export
from compressai_gen.entropy.gains import FixedGains, exp2
from compressai_gen.errors import CodecError, NotPortableError, OptionError
from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr
from compressai_gen.models.gain import interpolate
from compressai_gen.models.latents import entropy_networks


def checkerboard(seed=0):
    torch.manual_seed(seed)
    return calibrate(Cheng2020AnchorCheckerboard(16).eval(), seed)


def test_export_is_deterministic_and_names_the_weights():
    assert export(checkerboard()).fingerprint() == export(checkerboard()).fingerprint()
    assert export(checkerboard()).fingerprint() != export(checkerboard(1)).fingerprint()
    model = checkerboard()
    before = export(model).fingerprint()
    with torch.no_grad():
        model.latent_codec["hyper"].h_s[0].bias[3] += 0.01
    assert export(model).fingerprint() != before
    assert len(before) == 6


def test_config_survives_json():
    config = export(checkerboard()).config
    assert json.loads(json.dumps(config)) == config


def test_missing_tables_are_built_and_present_ones_kept():
    model = Cheng2020AnchorCheckerboard(16).eval()
    portable = export(model)
    assert model.latent_codec["hyper"].entropy_bottleneck.offset.numel() == 16
    model.latent_codec["hyper"].entropy_bottleneck._quantized_cdf[0, 1] += 1
    assert export(model).fingerprint() != portable.fingerprint()


def test_update_leaves_an_export_alone():
    torch.manual_seed(0)
    model = Cheng2020AnchorVbr(16).eval()
    model.update()
    model.portable = export(model)
    before = model.portable.fingerprint()
    with torch.no_grad():
        model.entropy_bottleneck.quantiles += 3
    model.update(force=True)
    assert model.portable.fingerprint() == before


def test_odd_parity_is_followed():
    model = checkerboard()
    model.latent_codec["y"].anchor_parity = "odd"
    networks = entropy_networks(model)
    z, y = drawn_latents(networks, 2, 3)
    (encoded,) = export(model).encode(y, z)
    _, _, y_hat = float_parameters(networks, y, z)
    assert (encoded.y_hat - y_hat).abs().max() < 0.02
    assert export(model).fingerprint() != export(checkerboard()).fingerprint()


def test_gelu_in_the_entropy_path():
    model = checkerboard()
    codec = model.latent_codec["y"]
    codec.entropy_parameters = nn.Sequential(
        *(nn.GELU() if isinstance(m, nn.LeakyReLU) else m for m in codec.entropy_parameters)
    )
    networks = entropy_networks(model)
    z, y = drawn_latents(networks, 2, 3)
    (encoded,) = export(model).encode(y, z)
    _, _, y_hat = float_parameters(networks, y, z)
    assert (encoded.y_hat - y_hat).abs().max() < 0.02


@pytest.mark.parametrize(
    "make", [lambda: JointAutoregressiveHierarchicalPriors(16, 16), lambda: Cheng2020Anchor(16)]
)
def test_serial_contexts_are_not_portable(make):
    with pytest.raises(NotPortableError):
        export(make())


def test_a_pointwise_network_that_is_not_pointwise_is_refused():
    model = checkerboard()
    model.latent_codec["y"].entropy_parameters[0] = nn.Conv2d(64, 53, 3, padding=1)
    with pytest.raises(NotPortableError, match="pointwise"):
        export(model)


def test_exp2_is_correct_to_its_last_bits():
    getcontext().prec = 40
    for log2 in (*range(0, 65536, 997), 1, 255, 256, 65535, -1, -65536, -300000, 400000):
        exact = Decimal(2) ** (Decimal(log2) / 65536) * 2**20
        assert abs(exp2(log2, 20) - exact) <= Decimal("0.51") + exact * Decimal("4e-9")
    assert [exp2(n << 16, 16) for n in (-17, -16, -1, 0, 1, 5)] == [
        1,
        1,
        2**15,
        2**16,
        2**17,
        2**21,
    ]
    assert exp2(-(40 << 16), 16) == 0


def test_exp2_golden():
    assert [exp2(v, 24) for v in (12345, -54321, 7, 65535 * 3)] == GOLDEN


GOLDEN = [19117225, 9445052, 16778458, 134213469]


@pytest.mark.parametrize("quality", [0, 0.5, 3.25, 4 + 1 / 256, 8.99, 9])
def test_gains_are_cuis_exponential_interpolation(quality):
    torch.manual_seed(0)
    log2 = torch.linspace(4, -4, 10)[:, None] + torch.randn(10, 12)
    gains = FixedGains.from_float(log2)
    real = interpolate(log2, torch.tensor([round(quality * 256) / 256])).flatten()
    fixed = gains.at(quality) / 2.0**gains.fraction_bits
    assert torch.allclose(fixed.float(), real, rtol=2e-5)
    again = FixedGains.from_config(gains.config())
    again.load_state_dict(gains.state_dict())
    assert torch.equal(again.at(quality), gains.at(quality))


def test_gains_scale_in_integers():
    gains = FixedGains.from_float(torch.tensor([[0.0, 1.0, -3.75], [0.0, -1.0, 12.9]]))
    z_hat = torch.tensor([100.0, -101.0, 2**26 - 1]).double()[:, None, None]
    at_0, at_1 = (gains.scale(z_hat.clone(), q).flatten().tolist() for q in (0, 1))
    assert at_0[:2] == [100, -202]
    assert at_1 == [100, -50, 2**26 - 1]


def test_gains_that_cannot_be_are_refused():
    for value in (27.0, -27.0, float("nan")):
        with pytest.raises(CodecError, match="diverged"):
            FixedGains.from_float(torch.full((2, 3), value))
    with pytest.raises(OptionError, match="rate points 0 to 1"):
        FixedGains.from_float(torch.zeros(2, 3)).at(1.5)
