"""Any CompressAI model as a diffusers component: saved, loaded, moved and cast, bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file
from small_models import ARCHITECTURES, PORTABLE, STOCK, picture, small_model
from test_checkpoints import hub_cache

from compressai_gen.checkpoints import architecture_class, compressai_state_dict, load_model
from compressai_gen.entropy import export
from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec.models.compression_model import CompressionModelComponent

NAME = "mbt2018-mean"


def strings(model, x=None):
    """What a model writes for a picture; the shape with it."""
    with torch.no_grad():
        out = model.compress(picture() if x is None else x)
    return out["strings"], out["shape"]


@pytest.fixture
def component():
    return CompressionModelComponent.from_compressai(small_model(NAME))


@pytest.fixture
def folder(component, tmp_path):
    component.save_pretrained(tmp_path / "codec")
    return tmp_path / "codec"


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
        cache = hub_cache(tmp_path / "hub", "org/codec", folder)
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
        del tensors["h_s.0.weight"]
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"h_s\.0\.weight"):
            CompressionModelComponent.from_pretrained(folder)


class TestState:
    def test_names_are_compressais(self, component):
        assert component.state_dict().keys() == component.model.state_dict().keys()

    def test_load_state_dict_sizes_the_tables(self, component):
        fresh = CompressionModelComponent(NAME, STOCK[NAME])
        fresh.load_state_dict(component.state_dict())
        assert strings(fresh.eval()) == strings(component)

    def test_inside_another_module(self, component):
        outer = torch.nn.ModuleDict({"codec": component})
        fresh = torch.nn.ModuleDict({"codec": CompressionModelComponent(NAME, STOCK[NAME])})
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


class TestPublishing:
    @pytest.fixture
    def uploads(self, monkeypatch):
        """Replaces the Hub; collects what would have been uploaded."""
        sent = {}

        class Api:
            def __init__(self, token=None):
                sent["token"] = token

            def create_repo(self, repo_id, **options):
                sent["private"] = options["private"]
                return type("Url", (), {"repo_id": repo_id})

            def file_exists(self, repo_id, name):
                return sent.get("has_card", False)

            def upload_folder(self, *, repo_id, folder_path, **options):
                sent["files"] = {path.name: path.read_bytes() for path in folder_path.iterdir()}
                sent.update(options, repo_id=repo_id)
                return f"https://example.org/{repo_id}"

        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        return sent

    def test_push_to_hub_writes_a_card(self, component, uploads):
        url = component.push_to_hub("org/codec", private=True, license="mit", token="secret")
        assert url == "https://example.org/org/codec"
        assert uploads["private"] is True
        assert uploads["token"] == "secret"
        card = uploads["files"]["README.md"].decode()
        assert "license: mit" in card
        assert 'load_model("org/codec")' in card
        assert {"config.json", "diffusion_pytorch_model.safetensors"} <= set(uploads["files"])
        assert json.loads(uploads["files"]["config.json"])["architecture"] == NAME

    def test_a_card_on_the_hub_is_kept(self, component, uploads):
        uploads["has_card"] = True
        component.push_to_hub("org/codec")
        assert "README.md" not in uploads["files"]

    def test_save_pretrained_with_push_to_hub(self, component, uploads, tmp_path):
        component.save_pretrained(tmp_path / "my-codec", push_to_hub=True, commit_message="first")
        assert uploads["repo_id"] == "my-codec"
        assert uploads["commit_message"] == "first"

    def test_subfolder_has_no_card(self, component, uploads):
        component.push_to_hub("org/codec", subfolder="codec")
        assert "README.md" not in uploads["files"]
        assert uploads["path_in_repo"] == "codec"
