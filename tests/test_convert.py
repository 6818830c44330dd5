"""``cgen convert compressai``: every form in which people keep CompressAI checkpoints."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file
from small_models import ARCHITECTURES, OURS, PORTABLE, STOCK, picture, small_model

from compressai_gen.checkpoints import (
    build_model,
    convert_compressai,
    load_model,
    read_config,
    stock_checkpoint,
)
from compressai_gen.cli.main import main
from compressai_gen.entropy import export
from compressai_gen.errors import CheckpointError, OptionError, UnknownNameError

NAME = "mbt2018-mean"


def strings(model):
    with torch.no_grad():
        return model.compress(picture())["strings"]


@pytest.fixture
def model():
    return small_model(NAME)


@pytest.fixture
def source(tmp_path):
    return tmp_path / "ckpt.pth.tar"


class TestEveryArchitecture:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_strings_are_bit_identical(self, architecture, tmp_path, source):
        model = small_model(architecture)
        torch.save(model.state_dict(), source)
        folder = convert_compressai(source, tmp_path / "out", architecture=architecture)
        assert strings(load_model(folder)) == strings(model)
        assert read_config(folder).arguments.items() >= ARCHITECTURES[architecture].items()
        assert (read_config(folder).portable is not None) == (architecture in PORTABLE)

    def test_untrained_tables_are_built(self, tmp_path, source):
        torch.manual_seed(0)
        model = build_model(NAME, STOCK[NAME])
        torch.save(model.state_dict(), source)
        folder = convert_compressai(source, tmp_path / "out", architecture=NAME)
        model.update()
        assert strings(load_model(folder)) == strings(model.eval())

    def test_tables_in_the_checkpoint_are_kept(self, model, tmp_path, source):
        model.update(scale_table=torch.linspace(0.2, 30, 20), force=True)
        torch.save(model.state_dict(), source)
        folder = convert_compressai(source, tmp_path / "out", architecture=NAME)
        assert torch.equal(
            load_model(folder).gaussian_conditional.scale_table,
            model.gaussian_conditional.scale_table,
        )

    @pytest.mark.parametrize("architecture", OURS)
    def test_an_export_in_the_checkpoint_is_replaced_by_an_equal_one(
        self, architecture, tmp_path, source
    ):
        model = small_model(architecture)
        model.add_module("portable", export(model))
        torch.save(model.state_dict(), source)
        folder = convert_compressai(source, tmp_path / "out", architecture=architecture)
        assert load_model(folder).portable.fingerprint() == model.portable.fingerprint()


class TestForms:
    @pytest.mark.parametrize("name", ["network", "state_dict", "model_state_dict"])
    def test_inside_a_training_checkpoint(self, model, tmp_path, source, name):
        optimizer = torch.optim.Adam(model.parameters())
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        content = {
            "epoch": 3,
            name: model.state_dict(),
            "loss": torch.tensor(0.5),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": scheduler.state_dict(),
        }
        torch.save(content, source)
        folder = convert_compressai(source, tmp_path / "out", architecture=NAME)
        assert strings(load_model(folder)) == strings(model)

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
    def test_wrapped_models(self, model, tmp_path, source, prefix):
        torch.save({prefix + k: v for k, v in model.state_dict().items()}, source)
        folder = convert_compressai(source, tmp_path / "out", architecture=NAME)
        assert strings(load_model(folder)) == strings(model)

    @pytest.mark.parametrize("form", ["_{singular}{index}", "_{plural}.{index}"])
    def test_old_spellings(self, model, tmp_path, source, form):
        singular = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
        state = {}
        for key, tensor in model.state_dict().items():
            parts = key.split(".")
            if parts[0] == "entropy_bottleneck" and parts[1] in singular:
                names = {"singular": singular[parts[1]], "plural": parts[1], "index": parts[2]}
                key = f"entropy_bottleneck.{form.format(**names)}"
            state[key] = tensor
        assert state.keys() != model.state_dict().keys()
        torch.save(state, source)
        folder = convert_compressai(source, tmp_path / "out", architecture=NAME)
        assert strings(load_model(folder)) == strings(model)

    def test_safetensors(self, model, tmp_path):
        save_file(model.state_dict(), tmp_path / "ckpt.safetensors")
        folder = convert_compressai(
            tmp_path / "ckpt.safetensors", tmp_path / "out", architecture=NAME
        )
        assert strings(load_model(folder)) == strings(model)


class TestMistakes:
    def convert(self, source, tmp_path, architecture=NAME):
        return convert_compressai(source, tmp_path / "out", architecture=architecture)

    def test_missing_file(self, source, tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            self.convert(source, tmp_path)

    def test_folder(self, tmp_path):
        with pytest.raises(CheckpointError, match="is a folder"):
            self.convert(tmp_path, tmp_path)

    def test_other_objects_are_never_loaded(self, source, tmp_path, model):
        torch.save({"network": model.state_dict(), "args": argparse.Namespace(lr=1)}, source)
        with pytest.raises(CheckpointError, match="tensors only"):
            self.convert(source, tmp_path)

    def test_not_a_checkpoint(self, source, tmp_path):
        source.write_bytes(b"hello")
        with pytest.raises(CheckpointError):
            self.convert(source, tmp_path)

    def test_truncated(self, source, tmp_path, model):
        torch.save(model.state_dict(), source)
        source.write_bytes(source.read_bytes()[:5000])
        with pytest.raises(CheckpointError, match="damaged"):
            self.convert(source, tmp_path)

    def test_no_tensors(self, source, tmp_path):
        torch.save({"epoch": 3}, source)
        with pytest.raises(CheckpointError, match="holds no state dict"):
            self.convert(source, tmp_path)

    @pytest.mark.parametrize("wrong", ["cheng2020-anchor", "mbt2018", "elic2022-official"])
    def test_wrong_architecture(self, source, tmp_path, model, wrong):
        torch.save(model.state_dict(), source)
        with pytest.raises(CheckpointError, match=f"do not fit --arch {wrong}"):
            self.convert(source, tmp_path, wrong)
        assert not (tmp_path / "out").exists()

    def test_unknown_architecture(self, source, tmp_path, model):
        torch.save(model.state_dict(), source)
        with pytest.raises(UnknownNameError, match="mbt2018-mean"):
            self.convert(source, tmp_path, "mbt2018-maen")


class TestCommand:
    def test_writes_a_folder_and_says_so(self, model, source, tmp_path, capsys):
        torch.save(model.state_dict(), source)
        arguments = ["--arch", NAME, "--quality", "3", "--metric", "ms-ssim", "--license", "mit"]
        out = tmp_path / "out"
        assert main(["convert", "compressai", str(source), "--out", str(out), *arguments]) == 0
        config = read_config(out)
        assert (config.architecture, config.quality, config.metric) == (NAME, 3, "ms-ssim")
        assert "license: mit" in (out / "README.md").read_text()
        printed = capsys.readouterr().out
        assert config.fingerprint in printed
        assert f"--checkpoint {out}" in printed

    def test_a_mistake_is_one_line_and_status_1(self, source, tmp_path, capsys):
        status = main(
            ["convert", "compressai", str(source), "--out", str(tmp_path / "o"), "--arch", NAME]
        )
        assert status == 1
        assert capsys.readouterr().err.count("\n") == 1

    def test_help_lists_the_converters_own_flags(self, capsys):
        with pytest.raises(SystemExit):
            main(["convert", "compressai", "--help"])
        assert "--arch" in capsys.readouterr().out


class TestStockWeights:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COMPRESSAI_GEN_CACHE", str(tmp_path / "cache"))

    @pytest.fixture
    def zoo(self, monkeypatch):
        """CompressAI's zoo with small weights in the place of its downloads."""
        import compressai.zoo

        calls = []

        def factory(quality, metric="mse", pretrained=False, **options):
            calls.append(quality)
            if quality > 8:
                raise ValueError(f'Invalid quality "{quality}"')
            return small_model(NAME)

        monkeypatch.setitem(compressai.zoo.image_models, NAME, factory)
        return calls

    def test_exported_once_and_found_again(self, zoo):
        first, second = stock_checkpoint(NAME, 3), stock_checkpoint(NAME, 3)
        assert first == second
        assert zoo == [3]
        config = read_config(first)
        assert (config.quality, config.portable is not None) == (3, True)
        assert "bsd-3-clause-clear" in (first / "README.md").read_text()

    def test_bad_quality(self, zoo):
        with pytest.raises(OptionError, match="quality 9"):
            stock_checkpoint(NAME, 9)

    def test_unknown_model(self):
        with pytest.raises(UnknownNameError, match="mbt2018-mean"):
            stock_checkpoint("mbt2018-maen", 3)

    def test_no_network(self, monkeypatch):
        from urllib.error import URLError

        import compressai.zoo

        def offline(**options):
            raise URLError("no route to host")

        monkeypatch.setitem(compressai.zoo.image_models, NAME, offline)
        with pytest.raises(CheckpointError, match="no route to host"):
            stock_checkpoint(NAME, 3)
