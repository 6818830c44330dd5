from __future__ import annotations

import copy
import random

import pytest
import torch
from calibrated import calibrate, drawn_latents
from compressai.models import MeanScaleHyperprior, ScaleHyperprior
from compressai.models.sensetime import Cheng2020AnchorCheckerboard
from float_entropy import float_bytes, float_parameters
from portability import check_portable

from compressai_gen.entropy import PortableEntropy, export, priors
from compressai_gen.errors import CheckpointError, CodecError, CorruptedFileError, OptionError
from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr
from compressai_gen.models.hific import Hific
from compressai_gen.models.hyperprior_vbr import MeanScaleHyperpriorGainVbr, ScaleHyperpriorGainVbr
from compressai_gen.models.latents import entropy_networks
from compressai_gen.models.lfgcm import Lfgcm

LFGCM = {"N": 24, "groups": (8, 4, 12, 8), "stages": (8, 8, 8), "context": (16, 12)}
MODELS = {
    "bmshj2018-hyperprior": (lambda: ScaleHyperprior(24, 32), None),
    "mbt2018-mean": (lambda: MeanScaleHyperprior(24, 32), None),
    "cheng2020-anchor-checkerboard": (lambda: Cheng2020AnchorCheckerboard(24), None),
    "cheng2020-anchor-vbr": (lambda: Cheng2020AnchorVbr(24), 3.625),
    "bmshj2018-hyperprior-gain-vbr": (lambda: ScaleHyperpriorGainVbr(24, 32), 0.0),
    "mbt2018-mean-gain-vbr": (lambda: MeanScaleHyperpriorGainVbr(24, 32), 9.0),
    "hific": (lambda: Hific(24, 32, (8, 8, 8, 8, 8), 1), None),
    "diffeic-lfgcm": (lambda: Lfgcm(**LFGCM, features=8, guidance=False), None),
}


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request):
    """A calibrated model with its entropy path attached, and a rate point for it."""
    make, quality = MODELS[request.param]
    torch.manual_seed(0)
    model = make().eval()
    if quality is not None:
        with torch.no_grad():
            for unit in (model.y_gain, model.z_gain):
                unit.log2_inverse_gain += 0.4 * torch.randn_like(unit.log2_inverse_gain)
    calibrate(model)
    model.add_module("portable", export(model))
    return model, quality


def latents(model, quality, height=3, width=4, seed=1):
    z, y = drawn_latents(entropy_networks(model), height, width, quality, seed)
    return y, z


def same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.crc == other.crc
        assert one.y_hat.dtype == torch.float32
        assert torch.equal(one.y_hat, other.y_hat)
        assert torch.equal(one.z_hat, other.z_hat)


def test_round_trip_in_batches_and_alone(exported):
    model, quality = exported
    pairs = [latents(model, quality, seed=seed) for seed in range(4)]
    batch = model.portable.encode(
        *(torch.cat(parts) for parts in zip(*pairs, strict=True)), quality
    )
    alone = [model.portable.encode(y, z, quality)[0] for y, z in pairs]
    assert [e.string for e in batch] == [e.string for e in alone]
    same(batch, alone)
    same(model.portable.decode([e.string for e in batch], (3, 4), quality), batch)
    assert batch[0].y_hat.shape == (1, model.portable.channels, 12, 16)
    assert batch[0].crc != batch[1].crc


def test_close_to_the_float_model_and_within_a_thousandth_of_its_rate(exported):
    model, quality = exported
    networks = entropy_networks(model)
    y, z = latents(model, quality, 8, 12)
    (encoded,) = model.portable.encode(y, z, quality)
    _, _, y_hat = float_parameters(networks, y, z, quality)
    assert (encoded.y_hat - y_hat).abs().max() < 0.02
    assert abs(len(encoded.string) / float_bytes(networks, y, z, quality) - 1) < 1e-3


def test_bit_identical_under_every_setting(exported):
    model, quality = exported
    images = [
        torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(i)) for i in range(5)
    ]
    with torch.no_grad():
        model = copy.deepcopy(model)
        for p in list(model.g_a.parameters())[-2:]:
            p.mul_(20)  # so that latents of noise are not all zero
    report = check_portable(model, images, quality)
    assert report.pictures == 5
    assert {"1 thread", "2 threads", "channels_last", "oneDNN off"} <= report.settings


def test_the_check_can_fail(exported):
    model, quality = exported
    broken = copy.deepcopy(model)
    flips = iter(range(10**6))
    first = broken.portable.h_s[0]
    honest = type(first).forward

    def drifting(self, x):
        return honest(self, x) + 500 * next(flips)

    type(first).forward = drifting
    try:
        with pytest.raises((AssertionError, CodecError)):
            check_portable(broken, [torch.rand(1, 3, 64, 64)], quality)
    finally:
        type(first).forward = honest


def test_saved_and_loaded_strictly(exported):
    model, quality = exported
    portable = model.portable
    other = PortableEntropy.from_config(portable.config)
    assert other.fingerprint() != portable.fingerprint()
    other.load_state_dict(portable.state_dict(), strict=True)
    assert other.fingerprint() == portable.fingerprint()
    y, z = latents(model, quality)
    same(other.encode(y, z, quality), portable.encode(y, z, quality))
    assert all(not b.is_floating_point() for b in portable.buffers())
    assert not list(portable.parameters())
    assert set(portable.state_dict()) == {k for k, _ in portable.named_buffers()}


def test_casts_and_layouts_leave_the_integers_alone(exported):
    model, quality = exported
    y, z = latents(model, quality)
    before, name = model.portable.encode(y, z, quality), model.portable.fingerprint()
    casts = {
        "half": lambda m: m.half(),
        "bfloat16": lambda m: m.bfloat16(),
        "double": lambda m: m.double(),
        "to": lambda m: m.to(torch.float16),
        "type": lambda m: m.type(torch.float16),
        "channels_last": lambda m: m.to(memory_format=torch.channels_last),
    }
    for cast in casts.values():
        other = cast(copy.deepcopy(model))
        assert other.portable.fingerprint() == name
        same(other.portable.encode(y, z, quality), before)


def test_latents_in_half_precision_are_coded_as_they_are(exported):
    model, quality = exported
    y, z = latents(model, quality)
    encoded = model.portable.encode(y.half(), z.half(), quality)
    same(model.portable.encode(y.half().float(), z.half().float(), quality), encoded)


def test_extreme_latents_are_clamped_and_still_agree(exported):
    model, quality = exported
    y, z = latents(model, quality)
    y[:, :, ::2], z[:, ::2], y[:, 1::3] = 1e30, -1e9, -20000.0
    encoded = model.portable.encode(y, z, quality)
    same(model.portable.decode([encoded[0].string], (3, 4), quality), encoded)


def test_large_pictures_in_strips_change_nothing(exported, monkeypatch):
    model, quality = exported
    y, z = latents(model, quality, 5, 3)
    before = model.portable.encode(y, z, quality)
    monkeypatch.setattr("compressai_gen.entropy.convolutions.COLUMNS", 30)
    monkeypatch.setattr(priors, "POSITIONS", 17)
    monkeypatch.setattr("compressai_gen.entropy.range_coder.CHUNK", 100)
    same(model.portable.encode(y, z, quality), before)
    assert model.portable.encode(y, z, quality)[0].string == before[0].string


def test_bad_latents_are_refused(exported):
    model, quality = exported
    y, z = latents(model, quality)
    with pytest.raises(CodecError, match="do not fit"):
        model.portable.encode(y[:, 1:], z, quality)
    with pytest.raises(CodecError, match="do not fit"):
        model.portable.encode(y[..., :-1], z, quality)
    for value in (float("nan"), float("inf")):
        with pytest.raises(CodecError, match="NaN"):
            model.portable.encode(y + value, z, quality)


def test_a_missing_or_wrong_quality_is_refused(exported):
    model, quality = exported
    y, z = latents(model, quality)
    if quality is None:
        same(model.portable.encode(y, z, 5.0), model.portable.encode(y, z, None))
        return
    for wrong in (None, -0.1, 9.01, float("nan")):
        with pytest.raises(OptionError, match="out of range"):
            model.portable.encode(y, z, wrong)
    low, high = (model.portable.encode(y, z, q)[0] for q in (0.0, 9.0))
    assert low.string != high.string


def test_damaged_streams_are_refused_or_give_another_crc(exported):
    model, quality = exported
    portable = model.portable
    (encoded,) = portable.encode(*latents(model, quality, 1, 1), quality)
    string, rng = encoded.string, random.Random(0)
    damaged = [b"", b"x" * 8, string[:-4], string[:-1], string + bytes(4), string[4:], bytes(800)]
    damaged += [rng.randbytes(len(string)) for _ in range(20)]
    for _ in range(60):
        place = rng.randrange(len(string))
        flipped = string[place] ^ 1 << rng.randrange(8)
        damaged.append(string[:place] + bytes([flipped]) + string[place + 1 :])
    accepted = 0
    for other in damaged:
        try:
            (decoded,) = portable.decode([other], (1, 1), quality)
        except CorruptedFileError:
            continue
        accepted += 1
        assert decoded.crc != encoded.crc
    assert accepted < len(damaged)


def test_absurd_shapes_are_refused_before_anything_is_allocated(exported):
    model, quality = exported
    (encoded,) = model.portable.encode(*latents(model, quality, 1, 1), quality)
    for shape in ((0, 1), (1, -1), (1, 2000), (10**9, 10**9)):
        with pytest.raises(CorruptedFileError, match="out of range"):
            model.portable.decode([encoded.string], shape, quality)
    with pytest.raises(CorruptedFileError, match="too short"):
        model.portable.decode([encoded.string], (1024, 1024), quality)
    with pytest.raises(CorruptedFileError):
        model.portable.decode([encoded.string], (2, 1), quality)


def damage(config, path, value):
    config = copy.deepcopy(config)
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["arithmetic", "fraction_bits"], 13), (["h_s"], None), (["h_s", 0, "inputs"], 23),
        (["prior"], {"family": "serial"}), (["prior"], []), (["prior", "family"], ["x"]),
        (["z_tables", "rows"], 3), (["z_tables"], {}), (["y_tables", "entries"], -1),
        (["gains"], {"levels": 10, "channels": 5, "fraction_bits": 20}), (["gains"], 5),
        (["gains"], {"levels": 10, "channels": 24, "fraction_bits": 99}),
    ],
)  # fmt: skip
def test_hostile_configs_are_checkpoint_errors(exported, path, value):
    model, _ = exported
    with pytest.raises(CheckpointError):
        PortableEntropy.from_config(damage(model.portable.config, path, value))


def test_configs_of_a_checkerboard_that_do_not_fit_together():
    config = export(calibrate(Cheng2020AnchorCheckerboard(24).eval())).config
    for path, value in (
        (["prior", "parity"], "both"),
        (["prior", "context"], None),
        (["prior", "context", "kernel"], 4),
        (["prior", "context", "outputs"], 40),
        (["prior", "entropy_parameters", 0, "inputs"], 7),
        (["prior", "entropy_parameters"], config["h_s"]),
    ):
        with pytest.raises((CheckpointError, CodecError)):
            PortableEntropy.from_config(damage(config, path, value))
    for nothing in (None, [], {}, "x"):
        with pytest.raises(CheckpointError):
            PortableEntropy.from_config(nothing)


def test_configs_of_channel_groups_that_do_not_fit_together():
    config = export(calibrate(Lfgcm(**LFGCM, features=8, guidance=False).eval())).config
    groups = ["prior", "groups"]
    for path, value in (
        (["prior", "parity"], None),
        (groups, []),
        (groups, {}),
        ([*groups, 0], None),
        ([*groups, 1, "channel_context"], None),
        ([*groups, 0, "channel_context"], config["prior"]["groups"][1]["channel_context"]),
        ([*groups, 2, "channel_context", 0, "inputs"], 7),
        ([*groups, 2, "local_context", "outputs"], 7),
        ([*groups, 3, "anchors"], config["prior"]["groups"][3]["others"]),
        ([*groups, 3, "others"], config["h_s"]),
    ):
        with pytest.raises((CheckpointError, CodecError)):
            PortableEntropy.from_config(damage(config, path, value))
