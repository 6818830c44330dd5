"""LatentFusionPipeline: verbs, call, the cached dial, and many bases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from diffusers import HeunDiscreteScheduler
from small_fusion import base, small_fusion, small_pipeline, wishing
from small_fusion import data as data
from small_fusion import photograph as photograph
from small_fusion import pipe as pipe
from small_fusion import runs as runs
from small_models import picture
from toys import tensors_for_callback

from compressai_gen.bitstream import unpack
from compressai_gen.errors import BitstreamError, CheckpointError, OptionError, SizeLimitError
from diffusers_codec import LatentFusionModel
from diffusers_codec.pipelines.codec import CodecPipelineOutput
from diffusers_codec.pipelines.latent_fusion import LatentFusionPipeline, default_scheduler

# two portable ones, serial contexts, ten slices, a generator, a stock variable-rate one: name,
# width of the latent
BASES = [
    ("bmshj2018-hyperprior", 24),
    ("mbt2018", 24),
    ("cheng2020-anchor", 16),
    ("elic2022-official", 32),
    ("hific", 24),
    ("mbt2018-mean-vbr", 24),
]


class TestVerbs:
    def test_the_file_is_the_base_codecs(self, pipe, photograph, data):
        assert data == pipe.codec.codec().compress(photograph)

    @pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
    def test_decompress(self, pipe, data, output_type):
        image = pipe.decompress(data, output_type=output_type)
        size = image.size if output_type == "pil" else image.shape
        assert tuple(size) == {"pil": (70, 50), "np": (50, 70, 3), "pt": (3, 50, 70)}[output_type]

    @pytest.mark.parametrize("mode", ["cached", "paper"])
    def test_tau_1_is_the_base_codec_without_d(self, pipe, data, runs, mode):
        image = pipe.decompress(data, tau=1, mode=mode, output_type="pt")
        assert torch.equal(image, base(pipe, data))
        assert not runs

    def test_the_dial_leads_from_d_to_the_base(self, pipe, data):
        images = [pipe.decompress(data, tau=tau, output_type="pt") for tau in (0, 0.3, 0.5, 0.8, 1)]
        distances = [float((image - base(pipe, data)).square().mean()) for image in images]
        assert distances == sorted(distances, reverse=True)
        assert distances[0] > distances[-1] == 0

    @pytest.mark.parametrize("steps", [1, 2, 10])
    def test_steps_are_evaluations_of_d(self, pipe, data, runs, steps):
        pipe.decompress(data, num_inference_steps=steps)
        assert len(runs) == steps

    def test_repeats_are_identical(self, pipe, data):
        images = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            images.append(pipe.decompress(data, output_type="pt"))
        assert torch.equal(*images)

    def test_thread_counts_differ_by_one_step_at_most(self, pipe, data):
        before, images = torch.get_num_threads(), []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            images.append(pipe.decompress(data, output_type="np").astype(int))
        torch.set_num_threads(before)
        assert abs(images[0] - images[1]).max() <= 1

    def test_the_noise_is_the_files(self, pipe, data):
        image = pipe.decompress(data, output_type="pt")
        assert not torch.equal(pipe.decompress(data, seed=1, output_type="pt"), image)
        one, other = (wishing(data, seed=seed) for seed in (1, 2))
        pictures = [pipe.decompress(file, output_type="pt") for file in (one, other)]
        assert not torch.equal(*pictures)
        assert torch.equal(pipe.decompress(data, seed=1, output_type="pt"), pictures[0])

    def test_the_senders_wish(self, pipe, data, runs):
        wished = wishing(data, tau=1.0)
        assert torch.equal(pipe.decompress(wished, output_type="pt"), base(pipe, data))
        assert not runs
        pipe.decompress(wishing(data, tau=0.2, steps=3))
        assert len(runs) == 3

    def test_compress_keeps_it(self, pipe, photograph, data):
        header, _ = unpack(pipe.compress(photograph, tau=0.2, num_inference_steps=3))
        assert header.tau == pytest.approx(0.2)
        assert header.steps == 3
        header, _ = unpack(data)
        assert header.tau is header.steps is None
        with pytest.raises(OptionError, match="tau"):
            pipe.compress(photograph, tau=1.5)

    def test_the_receiver_overrules_it(self, pipe, data, runs):
        wished = wishing(data, tau=0.2, steps=3)
        image = pipe.decompress(wished, tau=0.6, num_inference_steps=4, output_type="pt")
        assert len(runs) == 4
        expected = pipe.decompress(
            data, tau=0.6, num_inference_steps=4, output_type="pt", seed=None
        )
        assert torch.equal(image, expected)

    def test_pictures_that_are_too_large(self, pipe, data):
        for verb in (pipe.decompress, pipe.fuse):
            verb(data, num_inference_steps=1, max_pixels=50 * 70)
            with pytest.raises(SizeLimitError, match="70x50"):
                verb(data, max_pixels=50 * 70 - 1)

    def test_damaged_file(self, pipe, data):
        with pytest.raises(BitstreamError):
            pipe.decompress(data[:-3])


class TestCachedDial:
    def test_any_tau_after_one_sampling(self, pipe, data, runs):
        fused = pipe.fuse(data)
        assert len(runs) == 10
        images = {tau: pipe.render(fused, tau, "pt") for tau in (0.0, 0.4, 1.0)}
        assert len(runs) == 10
        for tau, image in images.items():
            assert torch.equal(image, pipe.decompress(data, tau=tau, output_type="pt"))

    def test_it_heeds_the_senders_wish(self, pipe, data, runs):
        wished = wishing(data, tau=0.6, steps=3)
        fused = pipe.fuse(wished)
        assert len(runs) == 3
        image = pipe.render(fused, output_type="pt")
        assert torch.equal(image, pipe.decompress(wished, output_type="pt"))
        assert not torch.equal(pipe.render(fused, 0, "pt"), image)

    def test_its_parts(self, pipe, data):
        fused = pipe.fuse(data, num_inference_steps=2)
        assert fused.y_hat.shape == fused.y_tilde.shape == (1, 24, 4, 8)
        assert fused.decoded.header.width == 70
        assert pipe.render(fused).size == (70, 50)

    def test_refusals(self, pipe, data):
        fused = pipe.fuse(data, num_inference_steps=1)
        with pytest.raises(OptionError, match="tau 2"):
            pipe.render(fused, 2.0)
        with pytest.raises(OptionError, match="'jpg': give one of pil, np, pt"):
            pipe.render(fused, 0.5, "jpg")


class TestCall:
    def test_round_trip(self, pipe, photograph, data):
        out = pipe(photograph)
        assert isinstance(out, CodecPipelineOutput)
        assert out.files == [data]
        assert out.bits_per_pixel == [8 * len(data) / (50 * 70)]
        assert np.array_equal(out.images[0], pipe.decompress(data, output_type="np"))

    def test_tau_1_is_the_base(self, pipe, photograph, data, runs):
        out = pipe(photograph, tau=1.0, output_type="pt")
        assert torch.equal(out.images[0], base(pipe, data))
        assert not runs

    def test_batch_and_tuple(self, pipe):
        both = torch.cat([picture(seed=1), picture(seed=2)])
        images, rates, files = pipe(both, tau=0.4, output_type="pt", return_dict=False)
        assert images.shape == (2, 3, 64, 64)
        assert len(rates) == len(files) == 2
        alone = pipe(picture(seed=2), tau=0.4, output_type="pt")
        assert torch.equal(images[1], alone.images[0])

    def test_a_generator_draws_other_samples(self, pipe):
        both = torch.cat([picture(seed=1)] * 2)
        options = {"output_type": "pt", "num_inference_steps": 2}
        plain = pipe(both, **options).images
        one, again = (
            pipe(both, generator=torch.Generator().manual_seed(3), **options).images
            for _ in range(2)
        )
        assert torch.equal(plain[0], plain[1])
        assert torch.equal(one, again)
        assert not torch.equal(one[0], one[1])
        assert not torch.equal(one[0], plain[0])

    def test_a_generator_for_every_picture(self, pipe, runs):
        both = torch.cat([picture(seed=1)] * 2)
        options = {"output_type": "pt", "num_inference_steps": 2}
        three, four = (torch.Generator().manual_seed(seed) for seed in (3, 4))
        together = pipe(both, generator=[three, four], **options).images
        alone = pipe(both[:1], generator=torch.Generator().manual_seed(4), **options).images
        assert torch.equal(together[1], alone[0])
        assert not torch.equal(*together)
        runs.clear()
        with pytest.raises(OptionError, match="1 generators for 2 pictures"):
            pipe(both, generator=[three])
        assert not runs

    def test_steps_are_ten_without_a_number(self, pipe, photograph, runs):
        pipe(photograph, num_inference_steps=None)
        assert len(runs) == 10

    def test_parts_that_are_missing_or_bare(self, pipe, photograph):
        with pytest.raises(CheckpointError, match="this LatentFusionPipeline has no fusion"):
            LatentFusionPipeline(pipe.codec, None, default_scheduler())(photograph)
        with pytest.raises(OptionError, match="bare MeanScaleHyperprior: wrap it"):
            LatentFusionPipeline(pipe.codec.model, pipe.fusion, default_scheduler())

    def test_callback(self, pipe, photograph):
        seen = []

        def watch(given, step, timestep, tensors):
            seen.append((given, step, int(timestep), set(tensors)))
            return tensors

        watched = pipe(
            photograph, num_inference_steps=2, output_type="pt", callback_on_step_end=watch
        )
        assert seen == [(pipe, 0, 999, {"latents"}), (pipe, 1, 499, {"latents"})]
        assert torch.equal(
            watched.images, pipe(photograph, num_inference_steps=2, output_type="pt").images
        )

    def test_callback_changes_the_latents(self, pipe, photograph):
        plain = pipe(photograph, num_inference_steps=2, output_type="pt").images
        changed = pipe(
            photograph,
            num_inference_steps=2,
            output_type="pt",
            callback_on_step_end=lambda _p, _s, _t, tensors: {"latents": 0 * tensors["latents"]},
        )
        assert not torch.equal(changed.images, plain)

    def test_tensors_for_the_callback(self, pipe, photograph, data, runs):
        verbs = ((pipe, photograph), (pipe.decompress, data), (pipe.fuse, data))
        for verb, given in verbs:
            for names in (["latents"], []):
                assert tensors_for_callback(verb, given, names) == names
        runs.clear()
        for verb, given in verbs:
            for names in (["latents", "prompt_embeds"], "latents", None):
                with pytest.raises(OptionError, match=r"give \['latents'\], or an empty list"):
                    verb(given, callback_on_step_end_tensor_inputs=names)
        assert not runs

    def test_progress_bar(self, photograph, capsys):
        loud = small_pipeline()
        loud.set_progress_bar_config(disable=False)
        loud(photograph, num_inference_steps=3)
        assert "3/3" in capsys.readouterr().err
        loud(photograph, tau=1.0)
        assert not capsys.readouterr().err

    def test_progress_of_several_evaluations_a_step(self, photograph, runs, capsys):
        loud = small_pipeline()
        loud.set_progress_bar_config(disable=False)
        loud.scheduler = HeunDiscreteScheduler.from_config(loud.scheduler.config)
        loud(photograph, num_inference_steps=3)
        assert len(runs) == 5
        assert "5/5" in capsys.readouterr().err


class TestBases:
    @pytest.mark.parametrize(("architecture", "channels"), BASES)
    def test_stock_models(self, architecture, channels, photograph):
        pipe = small_pipeline(architecture, channels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once a picture: not portable
            out = pipe(photograph, output_type="pt", num_inference_steps=2)
            original = base(pipe, out.files[0])
            assert torch.equal(pipe.decompress(out.files[0], tau=1, output_type="pt"), original)
        assert not torch.equal(out.images[0], original)

    def test_one_d_serves_all_rates_of_ours(self, photograph, runs):
        pipe = small_pipeline("cheng2020-anchor-vbr", 16, rate_points=10)
        low, high = (pipe(photograph, quality=q, output_type="pt") for q in (1, 7.5))
        assert len(low.files[0]) < len(high.files[0])
        for out in (low, high):
            original = base(pipe, out.files[0])
            assert not torch.equal(out.images[0], original)
            assert torch.equal(pipe.decompress(out.files[0], tau=1, output_type="pt"), original)

    def test_the_rate_point_of_the_file_reaches_d(self, photograph, monkeypatch):
        pipe = small_pipeline("cheng2020-anchor-vbr", 16, rate_points=10)
        asked, rate = [], LatentFusionModel._rate
        monkeypatch.setattr(
            LatentFusionModel, "_rate", lambda self, q: asked.append(q) or rate(self, q)
        )
        pipe(photograph, quality=7.5, num_inference_steps=2)
        assert asked == [7.5] * 3  # the condition and two steps

    def test_half_precision_d(self, pipe, data):
        half = LatentFusionPipeline(pipe.codec, small_fusion().half(), default_scheduler())
        half.set_progress_bar_config(disable=True)
        image, exact = (p.decompress(data, output_type="pt") for p in (half, pipe))
        assert (image - exact).abs().max() < 0.02
