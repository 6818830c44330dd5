"""The control module of DiffEIC: sizes as released, and a stock UNet that it leaves as it is."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from compressai_gen.errors import OptionError
from diffusers_codec import DiffEICControlModel
from diffusers_codec.models.injection import Injection, live_layers

SMALL = {
    "sample_size": 8,
    "block_out_channels": (32, 48, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SD21 = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}


def small_unet(**changes):
    torch.manual_seed(0)
    return UNet2DConditionModel(**{**SMALL, **changes}).eval()


def inputs(batch=2, height=8, width=12):
    generator = torch.Generator().manual_seed(1)
    x_t, z_c = torch.randn(2, batch, 4, height, width, generator=generator)
    return x_t, torch.tensor([7] * batch), z_c, torch.randn(batch, 3, 24, generator=generator)


def filled(unet, ratio=0.5):
    """A control module with zero convolutions that are not zero."""
    control = DiffEICControlModel.from_unet(unet, ratio).eval()
    for convs in (control.encoder_convs, control.decoder_convs, [control.middle_conv]):
        for conv in convs:
            torch.nn.init.normal_(conv.weight, std=0.05)
    return control


def millions(*modules):
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e6


def test_the_released_sizes():
    with torch.device("meta"):
        control = DiffEICControlModel()
    zero = (control.encoder_convs, control.decoder_convs, control.middle_conv)
    assert millions(*zero) == pytest.approx(4.49, abs=0.005)
    assert millions(control) - millions(*zero) == pytest.approx(19.92, abs=0.005)
    assert len(control.encoder_convs) + len(control.decoder_convs) + 1 == 25
    outputs = [conv.out_channels for conv in control.decoder_convs]
    assert outputs == [1280] * 7 + [640] * 3 + [320] * 2


@torch.no_grad()
def test_it_fits_the_unet_of_stable_diffusion():
    """The layers, without the weights: 865 M of them."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD21)
    encoder, _, decoder = live_layers(unet)
    control = DiffEICControlModel()
    assert len(encoder) == len(control.encoder_convs) == 12
    assert len(decoder) == len(control.decoder_convs) == 12
    skips = [conv.out_channels for conv in control.encoder_convs][::-1]
    live = [conv.out_channels for conv in control.decoder_convs]
    taken = [resnet.in_channels for resnet in decoder]
    assert taken == [a + b for a, b in zip(live, skips, strict=True)]


@torch.no_grad()
def test_fresh_it_changes_nothing_and_detached_it_never_was():
    unet = small_unet()
    x_t, t, z_c, prompt = inputs()
    before, names = unet(x_t, t, prompt).sample, list(unet.state_dict())
    control = DiffEICControlModel.from_unet(unet, 0.5)
    with Injection(unet) as injection:
        assert torch.equal(unet(x_t, t, prompt).sample, before)
        injection.set(control(x_t, t, z_c, prompt))
        assert torch.equal(unet(x_t, t, prompt).sample, before)
        injection.set(filled(unet)(x_t, t, z_c, prompt))
        assert (unet(x_t, t, prompt).sample - before).abs().max() > 1e-3
        assert list(unet.state_dict()) == names
    assert torch.equal(unet(x_t, t, prompt).sample, before)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_additions_reach_the_live_stream_where_the_paper_has_them(layers):
    """Against a forward pass written out from the layer table: corrected features are the skips."""
    unet = small_unet(layers_per_block=layers)
    x_t, t, z_c, prompt = inputs()
    control = filled(unet)
    additions = control(x_t, t, z_c, prompt)
    with Injection(unet) as injection:
        injection.set(additions)
        got = unet(x_t, t, prompt).sample
    embedding = unet.time_embedding(unet.time_proj(t))
    encoder, decoder = iter(additions.encoder), iter(additions.decoder)
    h = unet.conv_in(x_t) + next(encoder)
    skips = [h]
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", [None] * layers)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            h = resnet(h, embedding)
            if attention is not None:
                h = attention(h, prompt).sample
            h = h + next(encoder)
            skips.append(h)
        for downsampler in block.downsamplers or []:
            h = downsampler(h) + next(encoder)
            skips.append(h)
    h = unet.mid_block(h, embedding, encoder_hidden_states=prompt) + additions.middle
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", [None] * (layers + 1))
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            h = resnet(torch.cat([h + next(decoder), skips.pop()], dim=1), embedding)
            if attention is not None:
                h = attention(h, prompt).sample
        for upsampler in block.upsamplers or []:
            h = upsampler(h)
    expected = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
    torch.testing.assert_close(got, expected)
    assert next(encoder, None) is None
    assert next(decoder, None) is None


def test_it_starts_from_the_leading_channels_of_the_unet():
    unet = small_unet()
    control = DiffEICControlModel.from_unet(unet, 0.5)
    assert control.config.block_out_channels == [16, 32, 32]
    assert torch.equal(control.conv_in.weight[:, :4], unet.conv_in.weight[:16])
    own, whole = control.down_blocks[1].resnets[0].conv1, unet.down_blocks[1].resnets[0].conv1
    assert torch.equal(own.weight, whole.weight[:32, :16])
    assert torch.equal(control.time_embedding.linear_1.weight, unet.time_embedding.linear_1.weight)
    assert control.conv_in.weight[:, 4:].abs().sum() > 0


def test_saved_and_loaded(tmp_path):
    unet = small_unet()
    control = filled(unet)
    control.save_pretrained(tmp_path)
    other = DiffEICControlModel.from_pretrained(tmp_path).eval()
    x_t, t, z_c, prompt = inputs()
    for a, b in zip(
        control(x_t, t, z_c, prompt).decoder, other(x_t, t, z_c, prompt).decoder, strict=True
    ):
        assert torch.equal(a, b)


def test_gradients_reach_the_module_and_not_the_unet():
    unet = small_unet().requires_grad_(False)
    control = DiffEICControlModel.from_unet(unet, 0.5)
    x_t, t, z_c, prompt = inputs()
    z_c.requires_grad_(True)
    with Injection(unet) as injection:
        injection.set(control(x_t, t, z_c, prompt))
        unet(x_t, t, prompt).sample.square().sum().backward()
    convs = (*control.encoder_convs, control.middle_conv, *control.decoder_convs)
    assert all(conv.weight.grad.abs().sum() > 0 for conv in convs)
    assert not [n for n, p in unet.named_parameters() if p.grad is not None]


def test_mistakes_are_told():
    unet = small_unet()
    with pytest.raises(OptionError, match=r"ratio 1\.5"):
        DiffEICControlModel.from_unet(unet, 1.5)
    with pytest.raises(OptionError, match="cannot be steered"):
        DiffEICControlModel.from_unet(small_unet(mid_block_type="UNetMidBlock2D"))
    x_t, t, z_c, prompt = inputs()
    with Injection(unet) as injection:
        with pytest.raises(OptionError, match="attached to this UNet already"):
            Injection(unet)
        shallow = DiffEICControlModel.from_unet(small_unet(layers_per_block=1), 0.5)
        with pytest.raises(OptionError, match="from_unet"):
            injection.set(shallow(x_t, t, z_c, prompt))
    with Injection(unet):
        pass
