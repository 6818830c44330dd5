"""LatentFusionPipeline: saving, exchanging its parts, and which of them do not belong together."""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from small_fusion import component, small_fusion, small_pipeline
from small_fusion import data as data
from small_fusion import photograph as photograph
from small_fusion import pipe as pipe
from small_fusion import runs as runs

from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec.pipelines.codec import CodecPipeline
from diffusers_codec.pipelines.latent_fusion import LatentFusionPipeline, default_scheduler


class TestSaving:
    @pytest.fixture
    def folder(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path / "pipe")
        return tmp_path / "pipe"

    def quiet(self, loaded):
        loaded.set_progress_bar_config(disable=True)
        return loaded

    @pytest.mark.parametrize("loader", [DiffusionPipeline, LatentFusionPipeline])
    def test_round_trip(self, pipe, folder, data, loader):
        loaded = self.quiet(loader.from_pretrained(folder))
        assert type(loaded) is LatentFusionPipeline
        images = [p.decompress(data, tau=0.3, output_type="pt") for p in (pipe, loaded)]
        assert torch.equal(*images)
        for name in ("beta_schedule", "prediction_type", "timestep_spacing", "clip_sample"):
            assert loaded.scheduler.config[name] == default_scheduler().config[name]

    def test_custom_pipeline_modules_of_two_pipelines(self, pipe, folder, tmp_path):
        CodecPipeline(pipe.codec).save_pretrained(tmp_path / "other")
        for where, kind in ((tmp_path / "other", CodecPipeline), (folder, LatentFusionPipeline)):
            loaded = DiffusionPipeline.from_pretrained(
                where, custom_pipeline=str(where), trust_remote_code=True
            )
            assert type(loaded) is kind

    def test_is_an_attribute_of_diffusers(self):
        assert diffusers.LatentFusionPipeline is LatentFusionPipeline

    @pytest.mark.parametrize("loader", [DiffusionPipeline, LatentFusionPipeline])
    def test_a_part_that_is_passed_wins(self, folder, data, loader):
        parts = {
            "scheduler": EulerDiscreteScheduler.from_config(default_scheduler().config),
            "fusion": small_fusion(seed=3),
            "codec": component("bmshj2018-hyperprior"),
        }
        for name, part in parts.items():
            loaded = self.quiet(loader.from_pretrained(folder, **{name: part}))
            assert getattr(loaded, name) is part
            if name != "codec":
                assert loaded.decompress(data).size == (70, 50)

    def test_from_pipe_keeps_the_parts(self, pipe):
        other = LatentFusionPipeline.from_pipe(pipe)
        assert other.codec is pipe.codec
        assert other.fusion is pipe.fusion

    @pytest.mark.parametrize("options", [{}, {"low_cpu_mem_usage": False}])
    def test_half_precision_leaves_the_codec_alone(self, folder, pipe, photograph, data, options):
        options = {**options, "torch_dtype": torch.float16}
        loaded = self.quiet(LatentFusionPipeline.from_pretrained(folder, **options))
        assert loaded.fusion.dtype == torch.float16
        assert torch.equal(loaded.fusion.latent_std, pipe.fusion.latent_std)
        assert loaded.compress(photograph) == data
        exact = pipe.decompress(data, output_type="pt")
        assert (loaded.decompress(data, output_type="pt") - exact).abs().max() < 0.02


class TestRefusals:
    """All before any sampling."""

    @pytest.fixture(autouse=True)
    def no_sampling(self, runs):
        yield
        assert not runs

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tau": 1.5}, "tau 1.5: give a number from 0"),
            ({"mode": "fast"}, "give one of cached, paper"),
            ({"num_inference_steps": 0}, "from 1 to 1000"),
            ({"output_type": "latent"}, "give one of pil, np, pt"),
        ],
    )
    def test_options(self, pipe, photograph, data, options, message):
        for call in (lambda: pipe.decompress(data, **options), lambda: pipe(photograph, **options)):
            with pytest.raises(OptionError, match=message):
                call()

    def changed(self, pipe, **parts):
        return LatentFusionPipeline(**{**pipe.components, **parts})

    def refused(self, pipe, data, message, **parts):
        for verb in ("decompress", "fuse"):
            with pytest.raises(CheckpointError, match=message):
                getattr(self.changed(pipe, **parts), verb)(data)

    def test_d_of_another_width(self, pipe, data):
        self.refused(pipe, data, "has 24 channels, .* made for 32", fusion=small_fusion(32))

    def test_d_of_another_base(self, pipe, data):
        codec = pipe.codec.codec()
        mine = {
            "base_fingerprint": codec.fingerprint.hex(),
            "base_synthesis": codec.synthesis.hex(),
        }
        self.changed(pipe, fusion=small_fusion(**mine)).decompress(data, tau=1)
        for name, other in (("base_fingerprint", "00" * 6), ("base_synthesis", "00" * 2)):
            fusion = small_fusion(**{**mine, name: other})
            self.refused(pipe, data, f"trained for .*{other}", fusion=fusion)

    def test_d_with_weights_that_are_not_numbers(self, pipe, data):
        fusion = small_fusion()
        fusion.conv_out.bias.data[0] = torch.nan
        self.refused(pipe, data, "NaN or infinite", fusion=fusion)

    def test_d_with_a_standard_deviation_that_is_none(self, pipe, data):
        fusion = small_fusion()
        fusion.latent_std[5] = 0
        self.refused(pipe, data, "latent_std .* is 0 in a channel, not positive", fusion=fusion)

    def test_scheduler_of_another_prediction(self, pipe, data):
        scheduler = EulerDiscreteScheduler()
        with pytest.raises(OptionError, match='prediction_type="sample"'):
            self.changed(pipe, scheduler=scheduler).decompress(data)

    def test_equation_4_with_another_scheduler(self, pipe, data):
        scheduler = EulerDiscreteScheduler.from_config(default_scheduler().config)
        with pytest.raises(OptionError, match='use a DDIMScheduler, or mode "cached"'):
            self.changed(pipe, scheduler=scheduler).decompress(data, mode="paper")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestDevices:
    @pytest.mark.parametrize("offload", [False, True])
    def test_cuda_makes_nearly_the_same_picture(self, pipe, data, offload):
        there = small_pipeline()
        there.enable_model_cpu_offload() if offload else there.to("cuda")
        exact = pipe.decompress(data, tau=0.3, output_type="pt")
        image = there.decompress(data, tau=0.3, output_type="pt").cpu()
        assert (image - exact).abs().max() < 0.01
        fused = there.fuse(data)
        assert torch.equal(there.render(fused, 0.3, "pt").cpu(), image)
