"""LatentFusionModel: normalisation, types, saving and loading, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_fusion import latent, small_fusion

from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec import LatentFusionModel


class TestStatistics:
    def test_normalisation_is_by_channel_and_undone(self):
        fusion = small_fusion()
        mean, std = torch.arange(24.0), torch.arange(1.0, 25)
        fusion.set_statistics(mean, std)
        y = fusion.normalize(latent())
        torch.testing.assert_close(y[0, 3], (latent()[0, 3] - 3) / 4)
        torch.testing.assert_close(fusion.denormalize(y), latent(), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            (torch.zeros(23), torch.ones(24)),
            (torch.zeros(24), torch.ones(1)),
            (torch.full((24,), torch.nan), torch.ones(24)),
            (torch.zeros(24), torch.zeros(24)),
        ],
    )
    def test_impossible_ones_are_refused(self, mean, std):
        with pytest.raises(OptionError, match=r"mean: give 24|std: "):
            small_fusion().set_statistics(mean, std)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_a_cast_leaves_them_alone(self, dtype):
        fusion = small_fusion()
        y = fusion(latent(seed=2), 0.5, y_hat=latent())
        mean = fusion.latent_mean.clone()
        fusion.to(dtype)
        assert fusion.dtype == fusion.conv_out.weight.dtype == dtype
        assert torch.equal(fusion.latent_mean, mean)
        half = fusion(latent(seed=2), 0.5, y_hat=latent())
        assert half.dtype == torch.float32
        assert (half - y).abs().max() < 0.05 * (y - latent()).abs().max()


class TestSaving:
    @pytest.fixture
    def folder(self, tmp_path):
        small_fusion(base_fingerprint="010203040506", rate_points=10).save_pretrained(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_round_trip(self, folder, dtype, low_cpu_mem_usage):
        saved = small_fusion(rate_points=10).to(dtype)
        loaded = LatentFusionModel.from_pretrained(
            folder, torch_dtype=dtype, low_cpu_mem_usage=low_cpu_mem_usage
        )
        assert loaded.config.base_fingerprint == "010203040506"
        assert loaded.latent_mean.dtype == loaded.latent_std.dtype == torch.float32
        assert loaded.conv_out.weight.dtype == dtype
        for name, tensor in saved.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name

    def test_the_hosts_automatic_class_knows_it(self, folder):
        from diffusers import AutoModel

        assert type(AutoModel.from_pretrained(str(folder))) is LatentFusionModel

    def test_eight_bits_in_memory(self, folder):
        """Of the host's casts this is the hardest: float8 cannot even be looked at."""
        exact = LatentFusionModel.from_pretrained(folder)
        cast = LatentFusionModel.from_pretrained(folder)
        cast.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
        )
        cast.check_weights()
        assert cast.latent_std.dtype == torch.float32
        options = {"y_hat": latent(), "quality": 3.0}
        a, b = (fusion(latent(seed=2), 0.5, **options) for fusion in (exact, cast))
        assert 0 < (a - b).abs().max() < 0.2 * (a - latent()).abs().max()

    def test_it_is_config_and_safetensors(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ]
        config = json.loads((folder / "config.json").read_text())
        assert config["_class_name"] == "LatentFusionModel"
        assert config["latent_channels"] == 24

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_numbers(self, folder, value):
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["sample_in.bias"][3] = value
        save_file(tensors, file)
        with pytest.raises(CheckpointError, match=r"sample_in\.bias .* NaN or infinite"):
            LatentFusionModel.from_pretrained(folder)

    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_a_standard_deviation_that_is_none(self, folder, value):
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["latent_std"][3] = value
        save_file(tensors, file)
        with pytest.raises(CheckpointError, match=rf"latent_std .* is {value:g} in a channel"):
            LatentFusionModel.from_pretrained(folder)

    def test_weights_that_do_not_fit(self, folder):
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["other"] = tensors.pop("sample_in.bias")
        save_file(tensors, file)
        with pytest.raises(CheckpointError, match=r"1 tensors missing \['sample_in\.bias'\]"):
            LatentFusionModel.from_pretrained(folder)

    @pytest.mark.parametrize("shape", [(25,), (24, 1)])
    def test_a_tensor_of_another_shape(self, folder, shape):
        file = folder / "diffusion_pytorch_model.safetensors"
        save_file({**load_file(file), "conv_out.bias": torch.zeros(shape)}, file)
        with pytest.raises(
            CheckpointError, match=r"do not fit .* conv_out\.bias expected"
        ) as caught:
            LatentFusionModel.from_pretrained(folder)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("mistyped", "message"),
        [
            ({"width": "128"}, "width='128': give an integer of at least 1"),
            ({"width": None}, "width=None: give an integer"),
            ({"units": 3.5}, r"units=3\.5: give an integer"),
            ({"rate_points": "10"}, "rate_points='10': give an integer of at least 2"),
            ({"base_fingerprint": 5}, "base_fingerprint=5: give a string"),
            ({"time_embedding": "no"}, "time_embedding='no': give True or False"),
            ({"attention": ["full"]}, "give one of linear, full, none"),
        ],
    )
    def test_mistyped_configs(self, folder, mistyped, message):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **mistyped}))
        with pytest.raises(CheckpointError, match=f"describes no fusion module: .*{message}"):
            LatentFusionModel.from_pretrained(folder)

    def test_a_config_that_is_a_name(self, folder):
        (folder / "config.json").write_text('"org/name"')
        with pytest.raises(CheckpointError, match="the config is 'org/name', not an object"):
            LatentFusionModel.from_pretrained(folder)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"attention": "quadratic"}, "'quadratic': give one of linear, full, none"),
            ({"width": 0}, "width=0: give an integer of at least 1"),
            ({"units": 0}, "units=0: give an integer of at least 1"),
            ({"rate_points": 1}, "rate_points=1: give an integer of at least 2"),
            ({"residual": 1}, "residual=1: give True or False"),
        ],
    )
    def test_impossible_configs(self, options, message):
        with pytest.raises(OptionError, match=message):
            LatentFusionModel(24, **{"width": 8, "units": 1, **options})

    def test_latent_of_another_width(self):
        fusion = small_fusion()
        for call in (fusion.normalize, fusion.condition):
            with pytest.raises(CheckpointError, match=r"has 32 channels, .* made for 24"):
                call(latent(32))

    def test_condition_or_latent(self):
        fusion = small_fusion()
        condition = fusion.condition(latent())
        for given in ({}, {"condition": condition, "y_hat": latent()}):
            with pytest.raises(OptionError, match="either condition or y_hat"):
                fusion(latent(), 0.5, **given)


class TestBase:
    MINE = (bytes(range(6)), b"\x0a\x0b")

    @pytest.fixture
    def fusion(self):
        return small_fusion(
            base_fingerprint=self.MINE[0].hex(),
            base_synthesis=self.MINE[1].hex(),
            base_architecture="mbt2018-mean",
        )

    def test_its_own(self, fusion):
        fusion.check_base(*self.MINE, 24)

    @pytest.mark.parametrize("base", [(bytes(6), MINE[1]), (MINE[0], bytes(2))])
    def test_another_one(self, fusion, base):
        with pytest.raises(CheckpointError) as caught:
            fusion.check_base(*base, 24)
        assert "mbt2018-mean 000102030405/0a0b" in str(caught.value)
        assert f"{base[0].hex()}/{base[1].hex()}" in str(caught.value)

    def test_another_width(self, fusion):
        with pytest.raises(CheckpointError, match="has 192 channels"):
            fusion.check_base(*self.MINE, 192)

    def test_no_record_accepts_any(self):
        small_fusion().check_base(*self.MINE, 24)
        small_fusion(base_fingerprint=self.MINE[0].hex()).check_base(self.MINE[0], b"zz", 24)
