"""LatentFusionModel: what it computes, its size and cost."""

from __future__ import annotations

import pytest
import torch
from small_fusion import latent, small_fusion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compressai_gen.errors import OptionError
from diffusers_codec import LatentFusionModel
from diffusers_codec.models.latent_fusion_blocks import linear_attention

KODAK = (32, 48)


def macs(model, run):
    """Multiplications of the convolutions and linear layers during ``run``."""
    counts = []

    def count(module, _, output):
        counts.append(output.numel() * module.weight[0].numel())

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    run()
    for hook in hooks:
        hook.remove()
    return sum(counts)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made, in elements."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def largest_tensor(model, height, width):
    y = torch.empty(1, 192, height, width, device="meta")
    with torch.no_grad(), Largest() as largest:
        model(y, 0.5, y_hat=y)
    return largest.elements


@pytest.fixture(scope="module")
def default():
    with torch.device("meta"):
        return LatentFusionModel()


class TestPublishedSize:
    def test_parameters(self, default):
        assert sum(p.numel() for p in default.parameters()) == pytest.approx(26.5e6, rel=0.002)

    def test_multiplications_for_a_kodak_picture(self, default):
        y = torch.empty(1, 192, *KODAK, device="meta")
        condition = default.condition(y)
        once = macs(default, lambda: default.condition(y))
        step = macs(default, lambda: default(y, 0.5, condition))
        assert once + 10 * step == pytest.approx(236e9, rel=0.002)

    def test_memory_is_linear_in_the_pixels(self, default):
        """The largest tensor: queries, keys and values together, 107 MB for 4096x2160."""
        assert largest_tensor(default, *KODAK) == 3 * 256 * 32 * 48
        assert largest_tensor(default, 256, 136) == 3 * 256 * 256 * 136

    @pytest.mark.parametrize("channels", [128, 192, 220, 320])
    def test_every_latent_width(self, channels):
        fusion = small_fusion(channels, width=8, units=1)
        y = latent(channels)
        assert fusion(y, 1.0, y_hat=y).shape == y.shape


class TestComputation:
    def test_a_fresh_one_is_the_identity_on_y_hat(self):
        fusion = LatentFusionModel(24, 16, 2)
        assert torch.equal(fusion(latent(seed=2), 0.3, y_hat=latent()), latent())

    def test_without_residual_it_is_not(self):
        fusion = LatentFusionModel(24, 16, 2, residual=False)
        assert not torch.allclose(fusion(latent(seed=2), 0.3, y_hat=latent()), latent(), atol=0.1)

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (8, 8)])
    @pytest.mark.parametrize("attention", ["linear", "full", "none"])
    def test_any_height_and_width(self, size, attention):
        y = latent(24, *size)
        clean = small_fusion(attention=attention)(y, 0.5, y_hat=y)
        assert clean.shape == y.shape
        assert clean.isfinite().all()

    def test_condition_serves_all_steps(self):
        fusion = small_fusion()
        condition = fusion.condition(latent())
        for time in (1.0, 0.1):
            given = fusion(latent(seed=2), time, condition)
            assert torch.equal(given, fusion(latent(seed=2), time, y_hat=latent()))

    def test_inputs_matter(self):
        fusion = small_fusion()
        clean = fusion(latent(seed=2), 0.5, y_hat=latent())
        assert not torch.equal(clean, fusion(latent(seed=3), 0.5, y_hat=latent()))
        assert not torch.equal(clean, fusion(latent(seed=2), 0.6, y_hat=latent()))
        others = fusion(latent(seed=2), 0.5, y_hat=latent(seed=4)) - latent(seed=4)
        assert not torch.equal(clean - latent(), others)

    def test_without_time_embedding_time_does_not_matter(self):
        fusion = small_fusion(time_embedding=False)
        one, other = (fusion(latent(seed=2), time, y_hat=latent()) for time in (0.1, 1.0))
        assert torch.equal(one, other)
        assert not any("shift" in name or "embed" in name for name in fusion.state_dict())

    def test_attention_reaches_everywhere(self):
        far = latent(24, 1, 40)
        near = far.clone()
        near[..., -1] += 10
        reached = {}
        for attention in ("linear", "full", "none"):
            fusion = small_fusion(attention=attention, units=1)
            one, other = (fusion(y, 1.0, y_hat=y)[..., 0] for y in (far, near))
            reached[attention] = not torch.equal(one, other)
        assert reached == {"linear": True, "full": True, "none": False}

    def test_linear_attention_against_its_definition(self):
        query, key, value = torch.randn(3, 1, 2, 4, 9)
        for head in range(2):
            context = torch.zeros(4, 4)
            shares = key[0, head].exp() / key[0, head].exp().sum(1, keepdim=True)
            for position in range(9):
                context += torch.outer(value[0, head, :, position], shares[:, position])
            expected = context @ query[0, head] / 2
            result = linear_attention(query, key, value)[0, head]
            torch.testing.assert_close(result, expected)

    def test_batches_and_times(self):
        fusion = small_fusion(rate_points=10)
        y, noisy = torch.cat([latent(), latent(seed=2)]), torch.cat([latent(seed=3)] * 2)
        time, quality = torch.tensor([0.2, 0.9]), torch.tensor([1.0, 7.5])
        together = fusion(noisy, time, y_hat=y, quality=quality)
        for i in range(2):
            alone = fusion(noisy[i : i + 1], float(time[i]), y_hat=y[i : i + 1], quality=quality[i])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)

    def test_gradient_checkpointing_changes_nothing(self):
        gradients = []
        for enabled in (False, True):
            fusion = small_fusion().train()
            if enabled:
                fusion.enable_gradient_checkpointing()
                assert fusion.is_gradient_checkpointing
            fusion(latent(seed=2), 0.5, y_hat=latent()).square().sum().backward()
            gradients.append([parameter.grad for parameter in fusion.parameters()])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)

    def test_every_parameter_gets_a_gradient(self):
        fusion = small_fusion(rate_points=10)
        fusion(latent(seed=2), 0.5, y_hat=latent(), quality=3).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in fusion.parameters())


class TestRatePoints:
    def test_the_rate_point_matters(self):
        fusion = small_fusion(rate_points=10)
        clean = [fusion(latent(), 0.5, y_hat=latent(), quality=q) for q in (0, 9, 4.5)]
        assert not torch.equal(clean[0], clean[1])
        assert not torch.equal(clean[1], clean[2])

    def test_time_and_rate_point_are_fractions(self):
        fusion, seen = small_fusion(rate_points=10), []
        fusion.embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        fusion(latent(), 0.25, y_hat=latent(), quality=4.5)
        assert [scalars.tolist() for scalars in seen] == [[[1.0, 0.5]], [[0.25, 0.5]]]

    def test_without_rate_points_it_is_ignored(self):
        fusion = small_fusion()
        one, other = (fusion(latent(), 0.5, y_hat=latent(), quality=q) for q in (None, 3.0))
        assert torch.equal(one, other)

    def test_it_also_works_without_time(self):
        fusion = small_fusion(rate_points=10, time_embedding=False)
        one, other = (fusion(latent(), 0.5, y_hat=latent(), quality=q) for q in (0, 9))
        assert not torch.equal(one, other)

    @pytest.mark.parametrize(
        ("quality", "message"),
        [
            (None, "needs the rate point"),
            (9.5, r"quality 9\.5: .* rate points 0 to 9"),
            (float("nan"), "quality nan"),
            (torch.tensor([3.0, -1.0]), r"quality \[3\.0, -1\.0\]"),
            (torch.tensor(torch.nan), "quality nan"),
        ],
    )
    def test_refusals(self, quality, message):
        with pytest.raises(OptionError, match=message):
            small_fusion(rate_points=10).condition(latent(), quality)
