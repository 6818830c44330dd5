"""DiffEICPipeline: files, stock parts that can be exchanged, samplers, mistakes."""

from __future__ import annotations

import itertools
import math
import random
import time

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)
from peft import LoraConfig
from PIL import Image
from small_diffeic import small_pipeline, small_unet, small_vae, steering, tiny_vae
from small_models import picture, small_model
from test_fuzz import attacks, damaged
from toys import tensors_for_callback

import compressai_gen  # noqa: F401  (makes the pipelines known)
from compressai_gen.bitstream import Header, unpack
from compressai_gen.errors import BitstreamError, CheckpointError, CodecError, OptionError
from compressai_gen.notes import SynthesisWarning
from diffusers_codec import CompressionModelComponent
from diffusers_codec.models import autoencoders, tiling
from diffusers_codec.noise import counter_noise, step_generator
from diffusers_codec.pipelines.diffeic import DiffEICPipeline, default_scheduler, files


def photo(height=72, width=100):
    return picture(height, width)[0]


@pytest.fixture(scope="module")
def pipe():
    return small_pipeline()


@pytest.fixture(scope="module")
def data(pipe):
    return pipe.compress(photo())


def pixels(image):
    return np.asarray(image, dtype=float)


def test_any_size_and_every_form_of_picture(pipe):
    for height, width in ((1, 1), (64, 64), (70, 129)):
        x = photo(height, width)
        image = pipe.decompress(pipe.compress(x), num_inference_steps=2)
        assert image.size == (width, height)
    array = (photo().permute(1, 2, 0) * 255).round().byte().numpy()
    assert pipe.compress(array) == pipe.compress(Image.fromarray(array))
    out = pipe([Image.fromarray(array), photo(64, 64)], num_inference_steps=1)
    assert [image.size for image in out.images] == [(100, 72), (64, 64)]
    assert out.bits_per_pixel[0] == 8 * len(out.files[0]) / (100 * 72)


def test_the_picture_is_a_function_of_the_file(pipe, data):
    first = pipe.decompress(data, num_inference_steps=3, output_type="pt")
    torch.manual_seed(99)
    again = small_pipeline().decompress(data, num_inference_steps=3, output_type="pt")
    assert torch.equal(first, again)
    other = pipe.decompress(data, num_inference_steps=3, output_type="pt", seed=7)
    assert not torch.equal(first, other)


def test_no_steps_is_the_content_variable_through_the_vae(pipe, data):
    content = pipe.read(data)
    expected = autoencoders.decode(pipe.vae, content.z_c)[0, :, :72, :100].clamp(0, 1).detach()
    got = pipe.decompress(data, num_inference_steps=0, output_type="pt")
    assert torch.equal(got, expected)


def test_the_overhead_of_the_file(pipe, data):
    header, chunks = unpack(data)
    assert isinstance(header, Header)
    assert len(data) - sum(map(len, chunks)) <= 40
    assert len(chunks) == 1


@torch.no_grad()
def test_fifty_steps_are_the_papers(pipe, data):
    """Against guided-diffusion's spaced sampling, written out."""
    steps, total = 50, 1000
    content = pipe.read(data)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, total, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    used = [round(i * (total - 1) / (steps - 1)) for i in range(steps)]
    spaced = alphas[used]
    before = torch.cat([torch.ones(1, dtype=torch.float64), spaced[:-1]])
    z = counter_noise(content.seed, content.z_c.shape)
    generator = step_generator(content.seed)
    from diffusers_codec.models.injection import Injection

    with Injection(pipe.unet) as injection:
        for i in range(steps - 1, -1, -1):
            t, a, a_before = torch.tensor(used[i]), spaced[i], before[i]
            prompt = pipe.control.prompt
            injection.set(pipe.control(z, t, content.z_c, prompt))
            eps = pipe.unet(z, t, prompt).sample.double()
            beta = 1 - a / a_before
            z_0 = (z - (1 - a).sqrt() * eps) / a.sqrt()
            mean = a_before.sqrt() * beta / (1 - a) * z_0
            mean = mean + (1 - beta).sqrt() * (1 - a_before) / (1 - a) * z
            noise = torch.randn(z.shape, generator=generator) if i else torch.zeros_like(z)
            z = (mean + (beta * (1 - a_before) / (1 - a)).sqrt() * noise).float()
    expected = autoencoders.decode(pipe.vae, z)[0, :, :72, :100].clamp(0, 1)
    got = pipe.decompress(data, output_type="pt")
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "kind", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler]
)
def test_starting_from_the_content_variable(pipe, data, kind):
    scheduler = kind.from_config(default_scheduler().config, clip_sample=False)
    seen = []

    def note(pipeline, step, timestep, given):
        seen.append(float(timestep))

    options = {"num_inference_steps": 3, "scheduler": scheduler, "callback_on_step_end": note}
    pipe.decompress(data, start=0.3, **options)
    assert len(seen) == 3
    assert 200 < seen[0] <= 300
    z_c = autoencoders.decode(pipe.vae, pipe.read(data).z_c)[0, :, :72, :100].clamp(0, 1)
    content = pipe.read(data)
    near = pipe.render(content, start=0.003, output_type="pt", scheduler=scheduler,
                       num_inference_steps=1)  # fmt: skip
    far = pipe.render(content, output_type="pt", scheduler=scheduler, num_inference_steps=3)
    assert (near - z_c).abs().mean() < 0.5 * (far - z_c).abs().mean()


def test_callbacks_see_and_replace_the_latents(pipe, data):
    shapes = []

    def stop_at_zero(pipeline, step, timestep, given):
        shapes.append(given["latents"].shape)
        return {"latents": torch.zeros_like(given["latents"])}

    image = pipe.decompress(
        data, num_inference_steps=2, output_type="pt", callback_on_step_end=stop_at_zero
    )
    assert shapes == [(1, 4, 16, 16)] * 2
    blank = autoencoders.decode(pipe.vae, torch.zeros(1, 4, 16, 16))[0, :, :72, :100]
    torch.testing.assert_close(image, blank.clamp(0, 1).detach())


def test_tensors_for_the_callback(pipe, data):
    verbs = ((pipe, photo()), (pipe.decompress, data), (pipe.render, pipe.read(data)))
    for verb, given in verbs:
        for names in (["latents"], []):
            assert tensors_for_callback(verb, given, names) == names
        with pytest.raises(OptionError, match=r"'z_c'\]: give \['latents'\]"):
            verb(given, callback_on_step_end_tensor_inputs=["z_c"])


def test_a_generator_for_every_picture(pipe):
    both, options = torch.stack([photo()] * 2), {"output_type": "pt", "num_inference_steps": 1}
    three, four = (torch.Generator().manual_seed(seed) for seed in (3, 4))
    together = pipe(both, generator=[three, four], **options).images
    alone = pipe(both[:1], generator=torch.Generator().manual_seed(4), **options).images
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(*together)
    with pytest.raises(OptionError, match="1 generators for 2 pictures"):
        pipe(both, generator=[three])


def test_progress(data, capsys):
    loud = small_pipeline()
    loud.set_progress_bar_config(disable=False)
    loud.decompress(data, num_inference_steps=3)
    assert "3/3" in capsys.readouterr().err


def test_the_senders_wish(pipe):
    data = pipe.compress(photo(), num_inference_steps=2)
    plain = pipe.compress(photo())
    assert len(data) == len(plain) + 2
    wished = pipe.decompress(data, output_type="pt")
    assert torch.equal(wished, pipe.decompress(plain, num_inference_steps=2, output_type="pt"))


def test_saved_loaded_and_mixed(pipe, data, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) is DiffEICPipeline
    loaded.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "output_type": "pt"}
    assert torch.equal(loaded.decompress(data, **options), pipe.decompress(data, **options))
    mixed = DiffEICPipeline.from_pretrained(tmp_path, vae=tiny_vae())
    mixed.set_progress_bar_config(disable=True)
    image = mixed.decompress(data, **options)  # the same file, another decoder
    assert image.shape == (3, 72, 100)
    assert not torch.equal(image, pipe.decompress(data, **options))
    assert torch.equal(mixed.read(data).z_c, pipe.read(data).z_c)


def test_half_precision_leaves_the_symbols_alone(pipe, tmp_path, recwarn):
    pipe.save_pretrained(tmp_path)
    data = pipe.compress(photo())
    half = DiffEICPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert half.codec.dtype == torch.float32
    assert half.unet.dtype == torch.bfloat16
    assert torch.equal(half.read(data).z_c, pipe.read(data).z_c)
    a, b = (p.decompress(data, num_inference_steps=2, output_type="pt") for p in (half, pipe))
    assert (a - b).abs().mean() < 0.02
    assert half.decompress(half.compress(photo()), num_inference_steps=1).size == (100, 72)
    assert not [w for w in recwarn if w.category is SynthesisWarning]


def test_tiles(pipe):
    """One tile is the whole exactly; several are near it, with every latent covered once."""
    large = pipe.compress(photo(300, 520))
    options = {"num_inference_steps": 2, "output_type": "pt"}
    whole = pipe.decompress(large, **options)
    assert torch.equal(pipe.decompress(large, tile=576, **options), whole)
    parts = pipe.decompress(large, tile=256, **options)
    assert not torch.equal(parts, whole)
    assert (parts - whole).abs().mean() < 0.02
    places = torch.arange(40 * 72).view(1, 1, 40, 72).double()
    for tile in (16, 32, 50):
        seen = tiling.tiled(lambda r, c: places[:, :, r, c], 40, 72, tile)
        torch.testing.assert_close(seen, places)
    with pytest.raises(OptionError, match="multiple of 64"):
        pipe.decompress(large, tile=300)


def test_a_lora_by_the_unets_own_interface(data):
    own = small_pipeline()
    options = {"num_inference_steps": 2, "output_type": "pt"}
    plain = own.decompress(data, **options)
    own.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]), "style")
    for name, parameter in own.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert (own.decompress(data, **options) - plain).abs().max() > 1e-3
    own.unet.disable_adapters()
    assert torch.equal(own.decompress(data, **options), plain)
    own.unet.delete_adapters("style")
    assert torch.equal(own.decompress(data, **options), plain)


def test_the_unet_is_left_as_it_was(pipe, data):
    x, t, prompt = torch.randn(1, 4, 8, 8), torch.tensor(5), torch.randn(1, 3, 12)
    before = pipe.unet(x, t, prompt).sample

    def fail(*_):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pipe.decompress(data, num_inference_steps=2, callback_on_step_end=fail)
    assert torch.equal(pipe.unet(x, t, prompt).sample, before)


def test_parts_that_do_not_fit(data):
    unet = small_unet(cross_attention_dim=8)
    wide = small_unet(block_out_channels=(16, 48))
    cases = {
        "3 latent channels": {"vae": small_vae(latent_channels=3)},
        "at 1/4": {"vae": small_vae(blocks=3)},
        "a prompt of 12 numbers": {"unet": unet, "control": steering(small_unet())},
        "for a UNet of widths": {"unet": wide, "control": steering(small_unet())},
        "needs a diffeic-lfgcm": {
            "codec": CompressionModelComponent.from_compressai(small_model("mbt2018-mean"))
        },
        "has no unet": {"control": steering(small_unet()), "unet": None},
    }
    for message, parts in cases.items():
        pipe = small_pipeline(**parts)
        if message == "has no unet":
            pipe.unet = None
        with pytest.raises(CheckpointError, match=message):
            pipe.decompress(data, num_inference_steps=1)
    eight = small_pipeline()
    eight.unet = small_unet(in_channels=8)
    with pytest.raises(CheckpointError, match="takes 8 channels"):
        eight.compress(photo())


def test_a_file_of_another_checkpoint_and_another_control_module(pipe, data):
    from small_diffeic import small_lfgcm

    torch.manual_seed(5)
    other = small_lfgcm()
    with torch.no_grad():
        other.h_s[0].weight.mul_(1.1)
    other.export()
    stranger = small_pipeline(codec=CompressionModelComponent.from_compressai(other))
    with pytest.raises(CheckpointError, match="pass the right one"):
        stranger.decompress(data)
    control = steering(small_unet())
    with torch.no_grad():
        control.middle_conv.weight.add_(1)
    with pytest.warns(SynthesisWarning, match="the picture may differ"):
        small_pipeline(control=control).decompress(data, num_inference_steps=1)


def test_arguments_out_of_range(pipe, data):
    for options, message in (
        ({"num_inference_steps": -1}, "from 0 to 1000"),
        ({"num_inference_steps": 2.5}, "give an integer"),
        ({"start": 0.0}, "start 0.0"),
        ({"start": 0.01, "num_inference_steps": 50}, "at most 10"),
        ({"output_type": "jpeg"}, "output_type"),
        ({"seed": -1}, "seed"),
        ({"scheduler": DDIMScheduler(prediction_type="sample")}, "prediction_type 'sample'"),
        ({"scheduler": DDIMScheduler(clip_sample=True)}, "clips predictions"),
    ):
        with pytest.raises(OptionError, match=message):
            pipe.decompress(data, **options)


def test_damaged_and_hostile_files(pipe, data):
    """20,000 damaged ones, and 200 with right checksums that no encoder wrote."""
    model, rng, refused = pipe.codec.model, random.Random(0), 0
    synthesis = files.synthesis_hash(model, pipe.control)
    for number in range(20_000):
        bad = damaged(data, number, rng)
        if bad != data:
            with pytest.raises(BitstreamError):
                files.read(model, bad, synthesis)
    start = time.perf_counter()
    for bad in itertools.islice(attacks(data, rng), 200):
        try:
            files.read(model, bad, synthesis)
        except CodecError:
            refused += 1
    assert refused > 150
    assert time.perf_counter() - start < 60
    with pytest.raises(BitstreamError):
        pipe.decompress(b"not a file")


def test_bits_of_the_file_are_those_of_the_strings(pipe, data):
    model = pipe.codec.model
    _, chunks = unpack(data)
    x = torch.nn.functional.pad(photo()[None], (0, 28, 0, 56), mode="replicate")
    guidance = autoencoders.encode(pipe.vae, x)
    assert model.compress(x, guidance)["strings"] == [[chunks[0]]]
    assert math.isclose(guidance.mean().item(), autoencoders.encode(pipe.vae, x).mean().item())
