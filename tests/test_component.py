"""Any CompressAI model as a diffusers component: saved, loaded and cast, bit for bit."""

from __future__ import annotations

import pytest
import torch
from small_components import strings
from small_models import ARCHITECTURES, PORTABLE, picture, small_model

from compressai_gen.checkpoints import (
    architecture_class,
    compressai_state_dict,
    load_model,
    read_config,
)
from compressai_gen.checkpoints.fingerprint import synthesis_hash
from compressai_gen.entropy import export
from diffusers_codec.models.compression_model import CompressionModelComponent


class TestEveryArchitecture:
    @pytest.fixture(params=ARCHITECTURES)
    def architecture(self, request):
        return request.param

    def test_strings_are_bit_identical_after_a_round_trip(self, architecture, tmp_path):
        model = small_model(architecture)
        CompressionModelComponent.from_compressai(model).save_pretrained(tmp_path)
        loaded = CompressionModelComponent.from_pretrained(tmp_path)
        assert strings(loaded) == strings(model)
        assert strings(load_model(tmp_path)) == strings(model)
        assert read_config(tmp_path).synthesis == synthesis_hash(model).hex()

    def test_tables_are_stored_not_rebuilt(self, architecture, tmp_path, monkeypatch):
        model = small_model(architecture)
        CompressionModelComponent.from_compressai(model).save_pretrained(tmp_path)

        def rebuild(*args, **kwargs):
            raise AssertionError("tables must come from the file")

        monkeypatch.setattr(type(model), "update", rebuild)
        loaded = CompressionModelComponent.from_pretrained(tmp_path)
        buffers = dict(loaded.model.named_buffers())
        for name, table in model.named_buffers():
            assert torch.equal(buffers[name], table), name

    def test_half_precision_changes_nothing(self, architecture, tmp_path):
        model = small_model(architecture)
        component = CompressionModelComponent.from_compressai(model)
        before = {name: tensor.clone() for name, tensor in component.state_dict().items()}
        component.save_pretrained(tmp_path)
        casts = [
            component.half(),
            component.to(torch.float16),
            component.to("cpu", torch.bfloat16),
            CompressionModelComponent.from_pretrained(tmp_path, torch_dtype=torch.float16),
            CompressionModelComponent.from_pretrained(tmp_path, dtype=torch.bfloat16),
        ]
        for cast in casts:
            assert cast.dtype == torch.float32
            for name, tensor in cast.state_dict().items():
                assert tensor.dtype == before[name].dtype
                assert torch.equal(tensor, before[name]), name

    def test_decompress_gives_a_picture(self, architecture):
        component = CompressionModelComponent.from_compressai(small_model(architecture))
        with torch.no_grad():
            out = component.compress(picture())
            x_hat = component.decompress(out["strings"], out["shape"])["x_hat"]
        assert x_hat.shape == (1, 3, 64, 64)

    def test_stock_class_reads_the_weights(self, architecture, tmp_path):
        if architecture.startswith("elic") or architecture == "mbt2018-mean-vbr":
            pytest.skip("its from_state_dict does not find these arguments")
        model = small_model(architecture)
        CompressionModelComponent.from_compressai(model).save_pretrained(tmp_path)
        stock = architecture_class(architecture).from_state_dict(compressai_state_dict(tmp_path))
        assert strings(stock.eval()) == strings(model)


@pytest.mark.parametrize("architecture", PORTABLE)
class TestFixedPoint:
    """Models with an exported entropy path carry it along as integers."""

    @pytest.fixture
    def exported(self, architecture):
        model = small_model(architecture)
        model.add_module("portable", export(model))
        return CompressionModelComponent.from_compressai(model)

    def test_what_was_not_exported_is(self, architecture, exported):
        """Or a fusion module that was trained through ``cgen``, for its files, would refuse it."""
        component = CompressionModelComponent.from_compressai(small_model(architecture))
        assert component.codec().portable
        assert component.codec().fingerprint == exported.codec().fingerprint
        assert component.config["portable"] == exported.config["portable"]

    def test_saved_and_loaded_as_integers(self, exported, tmp_path):
        exported.save_pretrained(tmp_path)
        for model in (
            load_model(tmp_path),
            CompressionModelComponent.from_pretrained(tmp_path, torch_dtype=torch.float16).model,
        ):
            assert model.portable.config == exported.model.portable.config
            assert model.portable.fingerprint() == exported.model.portable.fingerprint()
            for name, buffer in exported.model.portable.named_buffers():
                assert torch.equal(model.portable.get_buffer(name), buffer), name

    def test_update_leaves_it_alone(self, exported):
        before = exported.model.portable.fingerprint()
        exported.model.update(force=True)
        assert exported.model.portable.fingerprint() == before

    def test_files_are_equal_and_readable_after_a_round_trip(self, exported, tmp_path):
        exported.save_pretrained(tmp_path)
        loaded = CompressionModelComponent.from_pretrained(tmp_path)
        data = exported.codec().compress(picture(50, 70))
        assert loaded.codec().compress(picture(50, 70)) == data
        there = loaded.codec().decompress(data, output_type="pt")
        assert torch.equal(there, exported.codec().decompress(data, output_type="pt"))

    def test_synthesis_type_of_a_codec_is_its_own(self, exported):
        before = {name: tensor.clone() for name, tensor in exported.state_dict().items()}
        half = exported.codec(dtype=torch.bfloat16)
        full = exported.codec()
        data = half.compress(picture())
        assert data == full.compress(picture())
        x_hat = half.decompress(data, output_type="pt")
        assert (x_hat - full.decompress(data, output_type="pt")).abs().max() < 0.05
        for name, tensor in exported.state_dict().items():
            assert tensor.dtype == before[name].dtype
            assert torch.equal(tensor, before[name])

    def test_stock_class_reads_the_float_part(self, exported, architecture, tmp_path):
        exported.save_pretrained(tmp_path)
        stock = architecture_class(architecture).from_state_dict(compressai_state_dict(tmp_path))
        with torch.no_grad():
            expected = exported.model(picture())["x_hat"]
            assert torch.equal(stock.eval()(picture())["x_hat"], expected)
