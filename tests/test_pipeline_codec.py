"""CodecPipeline: the verbs, the call, saving, and finding it through diffusers."""

from __future__ import annotations

import json
import warnings

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from hub_cache import write_hub_cache
from PIL import Image
from small_models import STOCK, picture, small_model

import compressai_gen
from compressai_gen.bitstream import unpack
from compressai_gen.entropy import export
from compressai_gen.errors import BitstreamError, CheckpointError, ImageError, OptionError
from diffusers_codec import CompressionModelComponent
from diffusers_codec.pipelines.codec import CodecPipeline, CodecPipelineOutput

VARIABLE, FIXED = "cheng2020-anchor-vbr", "mbt2018-mean"


def component(architecture, seed=0):
    model = small_model(architecture, seed)
    model.add_module("portable", export(model))
    return CompressionModelComponent.from_compressai(model)


def pipeline(architecture=VARIABLE, seed=0):
    pipe = CodecPipeline(component(architecture, seed))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


@pytest.fixture
def photograph():
    return Image.fromarray((picture(50, 70)[0] * 255).byte().permute(1, 2, 0).numpy())


class TestVerbs:
    def test_a_file_is_a_cgen_file_of_the_original_size(self, pipe, photograph):
        header, _ = unpack(pipe.compress(photograph, quality=2.5))
        assert (header.height, header.width, header.quality) == (50, 70, 2.5)
        assert header.portable

    @pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
    def test_decompress(self, pipe, photograph, output_type):
        image = pipe.decompress(pipe.compress(photograph), output_type=output_type)
        size = image.size if output_type == "pil" else image.shape
        assert tuple(size) == {"pil": (70, 50), "np": (50, 70, 3), "pt": (3, 50, 70)}[output_type]

    def test_quality_changes_the_file(self, pipe, photograph):
        assert len(pipe.compress(photograph, quality=0)) < len(pipe.compress(photograph, quality=9))

    def test_quality_out_of_range(self, pipe, photograph):
        with pytest.raises(OptionError, match="from 0"):
            pipe.compress(photograph, quality=9.5)

    def test_single_rate_model_refuses_a_quality(self, photograph):
        with pytest.raises(OptionError, match="one fixed rate"):
            pipeline(FIXED).compress(photograph, quality=3)

    def test_file_of_another_checkpoint(self, pipe, photograph):
        data = pipeline(seed=1).compress(photograph)
        with pytest.raises(CheckpointError, match="written with checkpoint"):
            pipe.decompress(data)

    def test_damaged_file(self, pipe, photograph):
        with pytest.raises(BitstreamError):
            pipe.decompress(pipe.compress(photograph)[:-3])


class TestCall:
    def test_default_output(self, pipe, photograph):
        out = pipe(photograph, quality=4)
        assert isinstance(out, CodecPipelineOutput)
        assert out.images[0].size == photograph.size
        assert out.bits_per_pixel == [8 * len(out.files[0]) / (50 * 70)]
        assert out.files == [pipe.compress(photograph, quality=4)]

    def test_the_picture_is_what_the_file_holds(self, pipe, photograph):
        out = pipe(photograph)
        assert np.array_equal(out.images[0], pipe.decompress(out.files[0], output_type="np"))

    def test_return_dict_false(self, pipe, photograph):
        images, rates, files = pipe(photograph, return_dict=False)
        assert len(images) == len(rates) == len(files) == 1

    def test_all_kinds_of_input_give_the_same_file(self, pipe, photograph):
        array = np.asarray(photograph)
        tensor = torch.tensor(array).permute(2, 0, 1) / 255
        expected = pipe.compress(photograph)
        for given in (
            photograph,
            [photograph],
            array,
            array[None],
            array.astype(np.float32) / 255,
            tensor,
            tensor[None],
            [tensor[None]],
        ):
            assert pipe(given).files == [expected]

    def test_batch(self, pipe):
        out = pipe(torch.cat([picture(seed=1), picture(seed=2)]), output_type="pt")
        assert out.images.shape == (2, 3, 64, 64)
        alone = pipe(picture(seed=2), output_type="pt")
        assert out.files[1] == alone.files[0]
        assert torch.equal(out.images[1], alone.images[0])

    def test_numpy_output(self, pipe):
        images = pipe(picture(), output_type="np").images
        assert images.shape == (1, 64, 64, 3)
        assert 0 <= images.min() <= images.max() <= 1

    @pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
    def test_pictures_of_several_sizes(self, pipe, photograph, output_type):
        out = pipe([photograph, picture()], output_type=output_type)
        assert len(out.images) == len(out.files) == 2

    def test_unknown_output_type(self, pipe, photograph):
        with pytest.raises(OptionError, match="'latent': give one of pil, np, pt"):
            pipe(photograph, output_type="latent")

    @pytest.mark.parametrize("given", [[], "photo.png", None])
    def test_not_a_picture(self, pipe, given):
        with pytest.raises(ImageError, match="a picture is"):
            pipe(given)

    def test_progress_bar(self, photograph, capsys):
        loud = pipeline()
        loud.set_progress_bar_config(disable=False)
        loud([photograph, photograph])
        assert "2/2" in capsys.readouterr().err


class TestSaving:
    @pytest.fixture
    def folder(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path / "pipe")
        return tmp_path / "pipe"

    def test_index_names_our_package(self, folder):
        index = json.loads((folder / "model_index.json").read_text())
        assert index["_class_name"] == "CodecPipeline"
        assert index["codec"] == ["diffusers_codec", "CompressionModelComponent"]

    @pytest.mark.parametrize("options", [{}, {"torch_dtype": torch.float16}], ids=str)
    def test_diffusers_finds_it(self, pipe, folder, photograph, options):
        loaded = DiffusionPipeline.from_pretrained(folder, **options)
        assert type(loaded) is CodecPipeline
        assert loaded.codec.dtype == torch.float32
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_dictionary_of_types(self, pipe, folder, photograph):
        types = {"default": torch.float16, "codec": torch.bfloat16}
        loaded = DiffusionPipeline.from_pretrained(folder, torch_dtype=types)
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_to_half_leaves_the_codec_alone(self, folder, pipe, photograph):
        loaded = DiffusionPipeline.from_pretrained(folder).to(torch.float16)
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_is_an_attribute_of_diffusers(self):
        assert diffusers.CodecPipeline is CodecPipeline

    def test_a_codec_that_is_passed_wins(self, folder, photograph):
        mine = component(FIXED)
        for loader in (CodecPipeline, DiffusionPipeline):
            loaded = loader.from_pretrained(folder, codec=mine)
            assert loaded.codec is mine

    def test_from_pipe_keeps_the_codec(self, pipe):
        assert CodecPipeline.from_pipe(pipe).codec is pipe.codec

    def test_repo_id_from_the_cache_offline(self, folder, pipe, photograph, tmp_path, monkeypatch):
        cache = write_hub_cache(folder, tmp_path, "org/pipe")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        loaded = DiffusionPipeline.from_pretrained("org/pipe", cache_dir=cache)
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_custom_pipeline_module(self, folder, pipe, photograph):
        loaded = DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=str(folder), trust_remote_code=True
        )
        assert type(loaded) is CodecPipeline
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_variant(self, pipe, photograph, tmp_path):
        pipe.save_pretrained(tmp_path, variant="ema")
        loaded = DiffusionPipeline.from_pretrained(tmp_path, variant="ema")
        assert loaded.compress(photograph) == pipe.compress(photograph)

    def test_the_folder_is_a_checkpoint_too(self, folder, pipe, photograph):
        codec = compressai_gen.ModelCodec.from_pretrained(folder)
        assert codec.compress(photograph) == pipe.compress(photograph)


class TestStockModels:
    def test_every_stock_model_makes_files(self, photograph):
        for architecture in STOCK:
            pipe = CodecPipeline(
                CompressionModelComponent.from_compressai(small_model(architecture))
            )
            pipe.set_progress_bar_config(disable=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # said once per picture: not portable
                out = pipe(photograph, output_type="pt")
                again = pipe.decompress(out.files[0], output_type="pt")
            assert torch.equal(again, out.images[0]), architecture

    def test_rate_dependent_tables_do_not_change_the_fingerprint(self, photograph):
        pipe = CodecPipeline(
            CompressionModelComponent.from_compressai(small_model("mbt2018-mean-vbr"))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            low, high = (pipe.compress(photograph, quality=q) for q in (1, 6.5))
            for data in (low, high, low):
                assert pipe.decompress(data).size == photograph.size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestDevices:
    def test_cuda_writes_the_same_file(self, pipe, photograph):
        data = pipe.compress(photograph)
        on_gpu = pipeline().to("cuda")
        assert pipe.decompress(on_gpu.compress(photograph)).size == photograph.size
        assert on_gpu.decompress(data).size == photograph.size

    def test_model_offload(self, photograph):
        offloaded = pipeline()
        offloaded.enable_model_cpu_offload()
        out = offloaded(photograph)
        assert out.images[0].size == photograph.size
        assert offloaded.codec.device.type == "cpu"
