"""``cgen convert hific`` and ``ms-illm``: the published files, by name, shape and arithmetic."""

from __future__ import annotations

import argparse
import pathlib
import re
from collections import OrderedDict

import pytest
import torch
from published_hific import TINY, Reference, Sizes, hific_shapes, ms_illm_shapes, random_state
from small_models import picture

from compressai_gen.checkpoints import load_model, read_config
from compressai_gen.cli.main import main
from compressai_gen.codec.model_codec import ModelCodec
from compressai_gen.errors import CheckpointError
from compressai_gen.models.hific import Hific
from compressai_gen_plugins.hific.convert import convert_hific, convert_ms_illm
from compressai_gen_plugins.hific.keys import hific_state, ms_illm_state

ARGS = {
    "likelihood_type": "gaussian",
    "normalize_input_image": True,
    "n_residual_blocks": TINY.blocks,
    "use_channel_norm": True,
    "use_latent_mixture_model": False,
    "sample_noise": False,
    "regime": "high",
    "image_dims": (3, 256, 256),
    "lambda_schedule": {"vals": [2.0, 1.0], "steps": [50000]},
    "dataset_path": "data/openimages",
    "checkpoint": None,
}
MED = {"likelihood_type": "logistic", "normalize_input_image": False, "regime": "med"}
LEFTOVERS = {
    "Discriminator.conv1.weight_orig": (64, 15, 4, 4),
    "perceptual_loss.net.lin0.model.1.weight": (1, 64, 1, 1),
    "Hyperprior.hyperprior_entropy_model.CDF": (12, 30),
    "Hyperprior.hyperprior_entropy_model.distribution.H_0": (12, 3, 1),
    "Hyperprior.prior_entropy_model.CDF_length": (64,),
    "Hyperprior.prior_entropy_model.scale_table_tensor": (64,),
}


def hific_file(path: pathlib.Path, state=None, **args) -> pathlib.Path:
    """A training checkpoint as Justin Tan's ``save_model`` writes it."""
    state = random_state(hific_shapes(TINY)) if state is None else state
    weight = next(iter(state.values())).clone().requires_grad_()
    optimizer = torch.optim.Adam([weight])
    content = {
        "model_state_dict": OrderedDict(state),
        "compression_optimizer_state_dict": optimizer.state_dict(),
        "epoch": 3,
        "steps": 100,
        "args": {**ARGS, **args},
        "discriminator_state_dict": {"conv1.bias": torch.zeros(3)},
    }
    torch.save(content, path)
    return path


@pytest.fixture
def source(tmp_path):
    return hific_file(tmp_path / "hific_hi.pt")


class TestNames:
    """At the published sizes, on the meta device."""

    @pytest.mark.parametrize("blocks", [9, 7])
    @pytest.mark.parametrize(
        ("shapes", "translate", "options"),
        [
            (hific_shapes, hific_state, {}),
            (ms_illm_shapes, ms_illm_state, {"padding": "zeros", "prior": "compressai"}),
        ],
        ids=["hific", "ms-illm"],
    )
    def test_every_name_and_shape_is_ours(self, blocks, shapes, translate, options):
        published = shapes(Sizes(blocks=blocks))
        with torch.device("meta"):
            state = translate({name: torch.empty(shape) for name, shape in published.items()})
            model = Hific(residual_blocks=blocks, **options)
        ours = {name: parameter.shape for name, parameter in model.named_parameters()}
        if translate is hific_state:
            del ours["entropy_bottleneck.quantiles"]
        assert {name: tensor.shape for name, tensor in state.items()} == ours

    def test_the_published_count(self):
        count = {}
        for name, shape in hific_shapes().items():
            head = name.split(".")[0]
            count[head] = count.get(head, 0) + torch.Size(shape).numel()
        assert count["Encoder"] == 7_423_420
        assert count["Generator"] == 156_774_683


class TestHific:
    @pytest.mark.parametrize("args", [{}, MED], ids=["high", "med"])
    def test_computes_what_the_published_model_computes(self, tmp_path, args):
        state = random_state(hific_shapes(TINY))
        source = hific_file(tmp_path / "a.pt", state, **args)
        model = load_model(convert_hific(source, tmp_path / "out"))
        same_networks(model, Reference(state, "reflect", args != MED))
        z = torch.randn(1, TINY.N, 2, 3) * 3
        _, likelihoods = model.entropy_bottleneck(z)
        expected = Reference(state, "reflect", True).z_likelihood(z.round())
        torch.testing.assert_close(
            likelihoods.double(), expected.clamp(min=1e-9), atol=2e-7, rtol=0
        )

    def test_args_decide(self, tmp_path):
        for name, args in (("high", {}), ("med", MED)):
            source = hific_file(tmp_path / f"{name}.pt", **args)
            config = read_config(convert_hific(source, tmp_path / name))
            assert config.architecture == "hific"
            assert config.quality == {"high": 3, "med": 2}[name]
            assert config.metric == "perceptual quality"
            assert config.arguments == {
                "N": TINY.N,
                "M": TINY.M,
                "widths": list(TINY.widths),
                "residual_blocks": TINY.blocks,
                "likelihood": {"high": "gaussian", "med": "logistic"}[name],
                "normalize": name == "high",
                "padding": "reflect",
                "prior": "tanh",
            }

    def test_tables_and_fixed_point_are_stored_once(self, source, tmp_path, monkeypatch):
        first = load_model(convert_hific(source, tmp_path / "one"))
        again = load_model(convert_hific(source, tmp_path / "two"))
        assert first.portable.fingerprint() == again.portable.fingerprint()
        assert first.entropy_bottleneck.quantized_cdf.numel() > 0
        monkeypatch.setattr(Hific, "update", None)
        codecs = [
            ModelCodec(load_model(tmp_path / name), "hific") for name in ("one", "one", "two")
        ]
        image = picture(100, 70)[0]
        files = {codec.compress(image) for codec in codecs}
        assert len(files) == 1
        assert codecs[0].portable
        assert codecs[1].decompress(files.pop(), output_type="pt").shape == image.shape

    def test_leftovers_are_dropped_and_wrappers_stripped(self, tmp_path, source):
        state = random_state(hific_shapes(TINY)) | random_state(LEFTOVERS)
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        folder = convert_hific(hific_file(tmp_path / "b.pt", wrapped), tmp_path / "wrapped")
        plain = convert_hific(source, tmp_path / "plain")
        assert read_config(folder) == read_config(plain)

    def test_card(self, source, tmp_path):
        card = (convert_hific(source, tmp_path / "out") / "README.md").read_text()
        assert "license: apache-2.0" in card
        own = convert_hific(source, tmp_path / "own", license="mit")
        assert "license: mit" in (own / "README.md").read_text()


class TestMsIllm:
    @pytest.fixture
    def state(self):
        return random_state(ms_illm_shapes(TINY))

    @pytest.fixture
    def source(self, state, tmp_path):
        torch.save(OrderedDict(state), tmp_path / "msillm_target_0.14bpp.ckpt")
        return tmp_path / "msillm_target_0.14bpp.ckpt"

    def test_computes_what_the_published_model_computes(self, state, source, tmp_path):
        model = load_model(convert_ms_illm(source, tmp_path / "out"))
        same_networks(model, Reference(state, "constant", False))
        assert torch.equal(model.entropy_bottleneck.quantiles, state["hyper_bottleneck.quantiles"])
        assert (model.padding, model.prior, model.likelihood) == ("zeros", "compressai", "gaussian")
        assert model.portable is not None

    def test_old_spellings_and_stored_tables(self, state, source, tmp_path):
        model = load_model(convert_ms_illm(source, tmp_path / "new"))
        old = {}
        for name, tensor in state.items():
            for ours, theirs in (
                ("matrices.", "_matrix"),
                ("biases.", "_bias"),
                ("factors.", "_factor"),
            ):
                name = name.replace(f"hyper_bottleneck.{ours}", f"hyper_bottleneck.{theirs}")
            old[name] = tensor
        for theirs, ours in (
            ("hyper_bottleneck", model.entropy_bottleneck),
            ("latent_bottleneck", model.gaussian_conditional),
        ):
            old |= {f"{theirs}.{name}": buffer for name, buffer in ours.named_buffers()}
        old["latent_bottleneck.scale_table"] = torch.linspace(0.2, 40, 64)
        torch.save(old, source)
        again = load_model(convert_ms_illm(source, tmp_path / "old"))
        table = again.gaussian_conditional.scale_table
        assert torch.equal(table, old["latent_bottleneck.scale_table"])
        z = torch.randn(1, TINY.N, 2, 2)
        assert torch.equal(again.entropy_bottleneck(z)[1], model.entropy_bottleneck(z)[1])

    def test_card_names_the_licence_of_the_weights(self, source, tmp_path):
        card = (convert_ms_illm(source, tmp_path / "out") / "README.md").read_text()
        assert "license: cc-by-nc-4.0" in card


def same_networks(model: Hific, reference: Reference) -> None:
    """Every network, on its own input."""
    with torch.no_grad():
        x = picture(128, 192)
        y = reference.analysis(x)
        torch.testing.assert_close(model.g_a(x), y, rtol=1e-4, atol=1e-4)
        z = reference.hyper_analysis(y)
        torch.testing.assert_close(model.h_a(y), z, rtol=1e-4, atol=1e-4)
        scales, means = model.h_s(z.round()).chunk(2, 1)
        expected = reference.hyper_synthesis(z.round(), "scale")
        torch.testing.assert_close(scales, expected, rtol=1e-4, atol=1e-4)
        expected = reference.hyper_synthesis(z.round(), "mean")
        torch.testing.assert_close(means, expected, rtol=1e-4, atol=1e-4)
        x_hat = reference.synthesis(y.round(), TINY.blocks)
        torch.testing.assert_close(model.g_s(y.round()), x_hat, rtol=1e-4, atol=1e-4)
        assert x_hat.std() > 0.01


class Runs:
    """A pickle of it would create a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class TestMistakes:
    @pytest.mark.parametrize("convert", [convert_hific, convert_ms_illm])
    def test_a_pickle_that_runs_code_is_refused_unrun(self, tmp_path, convert):
        torch.save({"model_state_dict": {}, "args": Runs(tmp_path / "ran")}, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match="never loaded"):
            convert(tmp_path / "bad.pt", tmp_path / "out")
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "out").exists()

    def test_the_advice_for_other_objects_works(self, tmp_path, monkeypatch):
        source = hific_file(tmp_path / "objects.pt", device=argparse.Namespace(type="cuda"))
        with pytest.raises(CheckpointError, match="where you trust the file") as caught:
            convert_hific(source, tmp_path / "out")
        assert "\n" not in str(caught.value)
        monkeypatch.chdir(tmp_path)
        code = "\n".join(re.findall(r"`(.*?)`", str(caught.value)))
        exec(code, {"FILE": source})
        assert read_config(convert_hific("plain.pt", "out")).quality == 3

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"likelihood_type": "cauchy"}, "'cauchy' is unknown"),
            ({"use_channel_norm": False}, "use_channel_norm=False"),
            ({"use_latent_mixture_model": True}, "use_latent_mixture_model=True"),
            ({"sample_noise": True}, "sample_noise=True"),
            ({"normalize_input_image": None}, "normalize_input_image is None"),
            ({"n_residual_blocks": 9}, "2 residual blocks.* say 9"),
        ],
    )
    def test_args_of_another_model(self, tmp_path, args, message):
        with pytest.raises(CheckpointError, match=message):
            convert_hific(hific_file(tmp_path / "a.pt", **args), tmp_path / "out")

    @pytest.mark.parametrize(
        "name",
        [
            "Encoder.conv_block3.1.bias",
            "Encoder.conv_block1.1.weight",
            "Generator.resblock_1.norm2.beta",
            "Hyperprior.synthesis_mu.conv2.weight",
            "Hyperprior.hyperlatent_likelihood.a_3",
        ],
    )
    def test_a_missing_tensor(self, tmp_path, name):
        state = random_state(hific_shapes(TINY))
        del state[name]
        with pytest.raises(CheckpointError, match=r"is missing|no weights"):
            convert_hific(hific_file(tmp_path / "a.pt", state), tmp_path / "out")

    def test_a_tensor_too_many(self, tmp_path):
        state = random_state(hific_shapes(TINY)) | {"Generator.noise.weight": torch.ones(1)}
        with pytest.raises(CheckpointError, match=r"left over: Generator\.noise\.weight"):
            convert_hific(hific_file(tmp_path / "a.pt", state), tmp_path / "out")

    def test_a_tensor_of_another_shape(self, tmp_path):
        state = random_state(hific_shapes(TINY))
        state["Generator.conv_block_out.1.weight"] = torch.zeros(4, 6, 7, 7)
        with pytest.raises(CheckpointError, match="size mismatch"):
            convert_hific(hific_file(tmp_path / "a.pt", state), tmp_path / "out")

    def test_each_others_files(self, source, tmp_path):
        with pytest.raises(CheckpointError, match="cgen convert hific"):
            convert_ms_illm(source, tmp_path / "out")
        torch.save(random_state(ms_illm_shapes(TINY)), tmp_path / "m.ckpt")
        with pytest.raises(CheckpointError, match="cgen convert ms-illm"):
            convert_hific(tmp_path / "m.ckpt", tmp_path / "out")

    def test_no_checkpoint_at_all(self, tmp_path):
        (tmp_path / "a.pt").write_bytes(b"hello")
        with pytest.raises(CheckpointError):
            convert_hific(tmp_path / "a.pt", tmp_path / "out")
        with pytest.raises(CheckpointError, match="no such file"):
            convert_hific(tmp_path / "b.pt", tmp_path / "out")
        torch.save([1, 2], tmp_path / "c.pt")
        for convert in (convert_hific, convert_ms_illm):
            with pytest.raises(CheckpointError, match="does not fit"):
                convert(tmp_path / "c.pt", tmp_path / "out")


class TestCommand:
    def test_convert_then_compress(self, source, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["convert", "hific", str(source), "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert "fixed point, portable" in printed
        assert read_config(out).fingerprint in printed

    def test_a_mistake_is_one_line(self, tmp_path, capsys):
        torch.save({"args": Runs(tmp_path / "ran")}, tmp_path / "bad.pt")
        arguments = ["convert", "ms-illm", str(tmp_path / "bad.pt"), "--out", str(tmp_path / "o")]
        assert main(arguments) == 1
        assert capsys.readouterr().err.count("\n") == 1
