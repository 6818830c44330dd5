"""HiFiC as a CompressAI model: sizes, distributions, strings, fixed point, the zoo."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.zoo import image_models
from published_hific import TINY, Reference, hific_shapes, random_state
from small_models import OURS, picture, small_model

from compressai_gen.checkpoints import read_config, save_model
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.entropy import PortableEntropy, export
from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.hific import QUALITIES, Hific
from compressai_gen.models.hific_entropy import LogisticConditional, TanhFactorBottleneck
from compressai_gen.models.hific_transforms import (
    WIDTHS,
    ChannelNorm,
    Encoder,
    Generator,
    hyper_analysis,
    hyper_synthesis,
    padded,
)
from compressai_gen.models.latents import analysis, entropy_networks, synthesis

SMALL = OURS["hific"]
VARIANTS = {
    "low": {},
    "med": QUALITIES[2],
    "ms-illm": {"normalize": False, "padding": "zeros", "prior": "compressai"},
}


def parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture(params=VARIANTS)
def model(request):
    torch.manual_seed(0)
    model = Hific(**SMALL, **VARIANTS[request.param]).eval()
    with torch.no_grad():
        model.g_a[-1].weight.mul_(20)  # latents of several steps, scales to fit
        model.h_s[-1].bias[: SMALL["M"]].fill_(5)
        for factor in model.entropy_bottleneck.factors:
            factor.normal_()
        model.update(update_quantiles=True)
    return model


class TestPublishedSizes:
    """Counted on the meta device: the real thing has 181 million parameters."""

    @pytest.mark.parametrize("border", ["reflect", "zeros"])
    def test_transforms(self, border):
        with torch.device("meta"):
            assert parameters(Encoder(WIDTHS, 220, True, border)) == 7_423_420
            assert parameters(Generator(WIDTHS, 220, 9, True, border)) == 156_774_683
            assert parameters(Generator(WIDTHS, 220, 7, True, border)) == 123_585_563
            assert parameters(hyper_analysis(220, 320, border)) == 5_754_560
            assert parameters(hyper_synthesis(220, 320)) == 2 * 5_754_460

    def test_the_defaults_are_the_published_ones(self):
        with torch.device("meta"):
            model = Hific()
        assert (model.N, model.M, model.widths, model.residual_blocks) == (320, 220, WIDTHS, 9)
        assert model.g_a[15].out_channels == 220
        assert parameters(model) == 7_423_420 + 156_774_683 + 5_754_560 + 2 * 5_754_460 + 320 * (
            3 + 9 + 9 + 3 + 4 * 3 - 2 + 4 * 3 - 2 + 3
        )


class TestBorders:
    @pytest.mark.parametrize("size", [(4, 4), (3, 9)])
    @pytest.mark.parametrize("margins", [(2, 2, 2, 2), (0, 1, 1, 0)])
    def test_reflection_is_torchs_where_torch_has_one(self, size, margins):
        x = torch.randn(2, 3, *size)
        assert torch.equal(padded(x, margins, "reflect"), F.pad(x, margins, mode="reflect"))

    def test_small_pictures_are_reflected_again_and_again(self):
        x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
        assert padded(x, (2, 3, 0, 1), "reflect")[0, 0].tolist() == [[1, 2, 1, 2, 1, 2, 1]] * 2

    def test_wide_but_low_pictures(self):
        """Each axis on its own: the wide one as torch does it."""
        x = torch.randn(1, 1, 2, 9)
        got = padded(x, (3, 3, 2, 2), "reflect")
        assert torch.equal(got[:, :, 2:4], F.pad(x, (3, 3, 0, 0), mode="reflect"))
        assert torch.equal(got[:, :, [0, 1, 4, 5]], got[:, :, [2, 3, 2, 3]])


class TestDistributions:
    def test_channel_norm_is_unbiased_with_the_published_epsilon(self):
        x = torch.randn(2, 5, 3, 4) * 0.05  # small enough for epsilon to count
        norm = ChannelNorm(5)
        torch.nn.init.normal_(norm.gamma)
        torch.nn.init.normal_(norm.beta)
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().sum(1, keepdim=True) / 4
        torch.testing.assert_close(
            norm(x), norm.gamma * centred / (variance + 1e-3).sqrt() + norm.beta
        )

    def test_bottleneck_has_a_factor_on_the_last_layer(self):
        state = random_state(hific_shapes(TINY))
        bottleneck = TanhFactorBottleneck(TINY.N).eval()
        with torch.no_grad():
            for k in range(4):
                root = "Hyperprior.hyperlatent_likelihood"
                bottleneck.matrices[k].copy_(state[f"{root}.H_{k}"])
                bottleneck.biases[k].copy_(state[f"{root}.b_{k}"])
                bottleneck.factors[k].copy_(state[f"{root}.a_{k}"])
            z = torch.randn(2, TINY.N, 3, 4) * 3
            z_hat, got = bottleneck(z)
            expected = Reference(state, "reflect", True).z_likelihood(z.round())
            assert torch.equal(z_hat, z.round())
            torch.testing.assert_close(got.double(), expected.clamp(min=1e-9), rtol=0, atol=2e-7)
            bottleneck.factors[3].zero_()
            assert (bottleneck(z)[1].double() - expected).abs().max() > 1e-3

    def test_tails_are_found_and_the_median_stays_zero(self):
        bottleneck = TanhFactorBottleneck(6)
        with torch.no_grad():
            for factor in bottleneck.factors:
                factor.normal_()
            bottleneck.biases[0].add_(torch.linspace(-4, 4, 6).view(6, 1, 1))
        bottleneck.update(force=True, update_quantiles=True)
        assert not bottleneck.quantiles[:, 0, 1].any()
        logits = bottleneck._logits_cumulative(bottleneck.quantiles, stop_gradient=True)
        ends = torch.tensor([0, 2])
        expected = bottleneck.target[ends].expand(6, 2)
        torch.testing.assert_close(logits[:, 0, ends], expected, rtol=0.01, atol=0.01)
        first, length = bottleneck.offset, bottleneck.cdf_length - 2
        assert (first <= 0).all()
        assert (first <= bottleneck.quantiles[:, 0, 0].ceil()).all()
        assert (first + length > bottleneck.quantiles[:, 0, 2]).all()

    def test_logistic_likelihood(self):
        logistic = LogisticConditional(None).eval()
        y, means = torch.randn(2, 3, 4, 5) * 5, torch.randn(2, 3, 4, 5)
        scales = torch.rand(2, 3, 4, 5) * 3
        y_hat, got = logistic(y, scales, means=means)
        assert torch.equal(y_hat, (y - means).round() + means)
        v, bound = (y - means).round().double(), scales.double().clamp(min=0.11)
        expected = ((v + 0.5) / bound).sigmoid() - ((v - 0.5) / bound).sigmoid()
        torch.testing.assert_close(got.double(), expected.clamp(min=1e-9), rtol=1e-3, atol=1e-7)

    def test_logistic_tables_are_the_likelihoods(self):
        logistic = LogisticConditional(None)
        logistic.update_scale_table([0.2, 1.0, 7.0])
        for row, scale in enumerate([0.2, 1.0, 7.0]):
            length, first = int(logistic.cdf_length[row]) - 2, int(logistic.offset[row])
            v = torch.arange(first, first + length).double()
            p = ((v + 0.5) / scale).sigmoid() - ((v - 0.5) / scale).sigmoid()
            table = logistic.quantized_cdf[row, : length + 1].diff() / 2**16
            assert (table - p).abs().max() < 4e-3
            assert 1 - p.sum() < 2e-9
        gaussian = GaussianConditional(None)
        gaussian.update_scale_table([0.2, 1.0, 7.0])
        assert not torch.equal(gaussian.cdf_length, logistic.cdf_length)


class TestModel:
    def test_forward_is_what_the_strings_decode_to(self, model):
        x = picture(64, 128)
        with torch.no_grad():
            out, coded = model(x), model.compress(x)
            decoded = model.decompress(coded["strings"], coded["shape"])["x_hat"]
        assert out["x_hat"].shape == x.shape
        torch.testing.assert_close(decoded, out["x_hat"].clamp(0, 1))
        bits = sum(-p.log2().sum() for p in out["likelihoods"].values())
        real = 8 * sum(len(strings[0]) for strings in coded["strings"])
        assert 0.97 * bits < real < 1.03 * bits + 128
        assert bits > 1000

    def test_images_are_zero_to_one_inside_and_out(self):
        model = Hific(**SMALL).eval()
        with torch.no_grad():
            grey = model.g_a[0](torch.zeros(1, 3, 64, 64))
            seen = []
            model.g_a[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            model.g_a(torch.full((1, 3, 64, 64), 0.5))
            x_hat = model.g_s(torch.randn(1, 24, 4, 4) * 20)
        assert not seen[0].any()
        assert torch.equal(model.g_a[0](seen[0]), grey)
        assert 0 <= x_hat.min() < x_hat.max() <= 1

    def test_training_gives_every_parameter_a_gradient(self, model):
        model.train()
        out = model(torch.rand(2, 3, 64, 64))
        rate = -sum(p.log().mean() for p in out["likelihoods"].values())
        (out["x_hat"].square().mean() + rate + model.aux_loss()).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []

    def test_trains_in_bfloat16(self, model):
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            out = model(torch.rand(1, 3, 64, 64))
        assert out["x_hat"].dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in out["likelihoods"].values())

    def test_the_generator_sees_rounded_latents_in_training(self, model):
        model.train()
        seen = []
        model.g_s.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        torch.manual_seed(1)
        x = picture()
        model(x)
        torch.manual_seed(1)
        z_hat, _ = model.entropy_bottleneck(model.h_a(model.g_a(x)))
        means = model.h_s(z_hat).chunk(2, 1)[1]
        steps = seen[0] - means
        assert (steps - steps.round()).abs().max() < 1e-4

    def test_state_dict_says_everything(self, model):
        copy = Hific.from_state_dict(model.state_dict()).eval()
        for name in (*SMALL, "likelihood", "normalize", "padding", "prior"):
            assert getattr(copy, name) == getattr(model, name), name
        assert copy.compress(picture()) == model.compress(picture())

    def test_a_published_state_dict_is_not_ours(self):
        with pytest.raises(CheckpointError, match="cgen convert hific"):
            Hific.from_state_dict(random_state(hific_shapes(TINY)))

    @pytest.mark.parametrize("name", ["likelihood", "padding", "prior"])
    def test_unknown_choices(self, name):
        with pytest.raises(OptionError, match=f"{name} 'laplace' is unknown"):
            Hific(**SMALL, **{name: "laplace"})

    def test_variants_have_their_classes(self):
        low, med, illm = (Hific(**SMALL, **options) for options in VARIANTS.values())
        assert type(low.entropy_bottleneck) is TanhFactorBottleneck
        assert type(illm.entropy_bottleneck) is EntropyBottleneck
        assert type(low.gaussian_conditional) is type(illm.gaussian_conditional)
        assert type(med.gaussian_conditional) is LogisticConditional


class TestFixedPoint:
    def test_round_trip(self, model):
        y, z = (t.detach() for t in analysis(model, picture(64, 128)))
        portable = export(model)
        (encoded,) = portable.encode(y, z)
        (decoded,) = portable.decode([encoded.string], (1, 2))
        assert decoded.crc == encoded.crc
        assert torch.equal(decoded.y_hat, encoded.y_hat)
        with torch.no_grad():
            float_strings = model.compress(picture(64, 128))["strings"]
            x_hat = model(picture(64, 128))["x_hat"]
            assert (synthesis(model, encoded.y_hat) - x_hat).abs().max() < 0.05
        assert len(encoded.string) < 1.02 * sum(len(s[0]) for s in float_strings) + 8

    def test_both_networks_of_h_s_are_exported_as_groups(self, model):
        fixed = export(model).h_s
        assert [layer.kind for layer in fixed][::2] == ["conv_transpose", "groups", "groups"]
        again = PortableEntropy.from_config(export(model).config)
        again.load_state_dict(export(model).state_dict())
        assert again.fingerprint() == export(model).fingerprint()

    def test_an_exported_model_keeps_its_tables(self, model):
        before = model.compress(picture())
        model.add_module("portable", export(model))
        tables = model.gaussian_conditional.quantized_cdf.clone()
        with torch.no_grad():
            model.entropy_bottleneck.biases[0].add_(1)
            model.gaussian_conditional.tail_mass = 0.1
        assert not model.update(force=True)
        assert torch.equal(model.gaussian_conditional.quantized_cdf, tables)
        assert model.compress(picture()) == before

    def test_files(self, model):
        model.add_module("portable", export(model))
        codec = ModelCodec(model, "hific")
        image = picture(70, 90)[0]
        data = codec.compress(image)
        assert codec.portable
        x_hat = codec.decompress(data, output_type="pt")
        assert x_hat.shape == (3, 70, 90)
        assert entropy_networks(model).family == "mean-scale"


class TestZoo:
    def test_qualities_are_low_med_high(self):
        for quality, is_normalised in ((1, True), (2, False), (3, True)):
            model = image_models["hific"](quality, **SMALL)
            assert model.normalize == is_normalised
            assert model.likelihood == ("logistic" if quality == 2 else "gaussian")

    @pytest.mark.parametrize(("quality", "metric"), [(0, "mse"), (4, "mse"), (1, "ms-ssim")])
    def test_anything_else_is_refused(self, quality, metric):
        with pytest.raises(OptionError, match="give 1"):
            image_models["hific"](quality, metric)

    def test_pretrained_says_where_the_weights_are(self):
        with pytest.raises(CheckpointError, match=r"zenodo.*cgen convert hific FILE --out DIR"):
            image_models["hific"](1, pretrained=True)

    def test_checkpoint(self, tmp_path):
        model = small_model("hific")
        model.add_module("portable", export(model))
        folder = save_model(model, tmp_path / "c", architecture="hific", arguments=SMALL)
        assert read_config(folder).metric == "perceptual quality"
        loaded = image_models["hific"](checkpoint=folder, pretrained=True)
        assert loaded.compress(picture()) == model.compress(picture())
        assert loaded.portable.fingerprint() == model.portable.fingerprint()
        other = small_model("mbt2018-mean")
        arguments = {"N": 16, "M": 24}
        save_model(other, tmp_path / "o", architecture="mbt2018-mean", arguments=arguments)
        with pytest.raises(CheckpointError, match="not a hific"):
            image_models["hific"](checkpoint=tmp_path / "o")

    def test_pickled_and_back(self, model):
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        assert Hific.from_state_dict(state).eval().compress(picture()) == model.compress(picture())
