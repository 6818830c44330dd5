"""A component's ``from_pretrained`` with its many arguments, its state dict, and moving it."""

from __future__ import annotations

import pytest
import torch
from accelerate import init_empty_weights
from hub_cache import write_hub_cache
from safetensors.torch import load_file
from small_components import NAME, strings
from small_components import component as component
from small_components import folder as folder
from small_models import STOCK, small_model

from compressai_gen.checkpoints import load_model
from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec.models.compression_model import CompressionModelComponent


class TestLoading:
    @pytest.mark.parametrize(
        "options",
        [
            {"low_cpu_mem_usage": True},
            {"low_cpu_mem_usage": False},
            {"device_map": "cpu"},
            {"device_map": {"": "cpu"}},
            {"use_safetensors": True},
            {"disable_mmap": True},
        ],
        ids=str,
    )
    def test_options_of_from_pretrained(self, component, folder, options):
        loaded = CompressionModelComponent.from_pretrained(folder, **options)
        assert strings(loaded) == strings(component)

    def test_device_map_over_several_devices_is_ignored_with_a_warning(self, component, folder):
        with pytest.warns(UserWarning, match="device_map='balanced' is ignored"):
            loaded = CompressionModelComponent.from_pretrained(folder, device_map="balanced")
        assert strings(loaded) == strings(component)

    @pytest.mark.parametrize("context", [lambda: torch.device("meta"), init_empty_weights])
    def test_meta_device_is_refused(self, context):
        with context(), pytest.raises(OptionError, match="meta device"):
            CompressionModelComponent(NAME, STOCK[NAME])

    def test_subfolder(self, component, folder):
        loaded = CompressionModelComponent.from_pretrained(folder.parent, subfolder="codec")
        assert strings(loaded) == strings(component)

    def test_variant(self, component, tmp_path):
        component.save_pretrained(tmp_path, variant="ema")
        assert (tmp_path / "diffusion_pytorch_model.ema.safetensors").exists()
        loaded = CompressionModelComponent.from_pretrained(tmp_path, variant="ema")
        assert strings(loaded) == strings(component)

    def test_shards(self, component, tmp_path):
        component.save_pretrained(tmp_path, max_shard_size="50KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
        loaded = CompressionModelComponent.from_pretrained(tmp_path)
        assert strings(loaded) == strings(component)
        assert strings(load_model(tmp_path)) == strings(component)

    def test_missing_shard(self, component, tmp_path):
        component.save_pretrained(tmp_path, max_shard_size="50KB")
        sorted(tmp_path.glob("*.safetensors"))[0].unlink()
        with pytest.raises(CheckpointError, match="incomplete"):
            load_model(tmp_path)

    def test_repo_id_from_the_cache_offline(self, component, folder, tmp_path, monkeypatch):
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        loaded = CompressionModelComponent.from_pretrained("org/codec", cache_dir=cache)
        assert strings(loaded) == strings(component)

    def test_loading_info(self, component, folder):
        loaded, info = CompressionModelComponent.from_pretrained(folder, output_loading_info=True)
        assert strings(loaded) == strings(component)
        assert info["missing_keys"] == []

    def test_is_in_evaluation_mode(self, folder):
        assert not CompressionModelComponent.from_pretrained(folder).model.training

    def test_weights_of_another_model_are_refused(self, component, folder):
        other = CompressionModelComponent.from_compressai(small_model(NAME, seed=1))
        other.save_pretrained(folder.parent / "other")
        weights = "diffusion_pytorch_model.safetensors"
        (folder.parent / "other" / weights).replace(folder / weights)
        with pytest.raises(CheckpointError, match="do not belong together"):
            CompressionModelComponent.from_pretrained(folder)

    def test_missing_tensors_are_refused(self, folder):
        from safetensors.torch import save_file

        path = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        del tensors["g_s.0.weight"]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"g_s\.0\.weight"):
            CompressionModelComponent.from_pretrained(folder)


class TestState:
    def test_names_are_compressais(self, component):
        assert component.state_dict().keys() == component.model.state_dict().keys()

    def test_load_state_dict_sizes_the_tables(self, component):
        fresh = CompressionModelComponent.from_config(component.config)
        fresh.load_state_dict(component.state_dict())
        assert strings(fresh.eval()) == strings(component)

    def test_inside_another_module(self, component):
        outer = torch.nn.ModuleDict({"codec": component})
        inner = CompressionModelComponent.from_config(component.config)
        fresh = torch.nn.ModuleDict({"codec": inner})
        fresh.load_state_dict(outer.state_dict())
        assert strings(fresh["codec"].eval()) == strings(component)

    def test_from_config(self, component):
        fresh = CompressionModelComponent.from_config(component.config)
        assert fresh.config.architecture == NAME
        assert type(fresh.model) is type(component.model)

    def test_flashpack_is_refused(self, component, tmp_path):
        with pytest.raises(OptionError, match="integer tables"):
            component.save_pretrained(tmp_path, use_flashpack=True)

    def test_a_model_without_tables_is_not_saved(self, tmp_path):
        with pytest.raises(CheckpointError, match="update"):
            CompressionModelComponent(NAME, STOCK[NAME]).save_pretrained(tmp_path)

    def test_saving_after_training_records_the_new_fingerprint(self, component, folder, tmp_path):
        with torch.no_grad():
            component.model.g_s[0].bias.add_(1)
        component.save_pretrained(folder)
        assert strings(CompressionModelComponent.from_pretrained(folder)) == strings(component)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_moves_between_devices(self, component):
        moved = component.to("cuda", torch.float16)
        assert {p.device.type for p in moved.parameters()} == {"cuda"}
        assert {p.dtype for p in moved.parameters()} == {torch.float32}
