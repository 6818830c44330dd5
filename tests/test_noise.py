"""Noise by counter: golden words, normal statistics, no generator of torch's."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from compressai_gen.errors import OptionError
from diffusers_codec.noise import counter_noise, quantiles, step_generator


def crc(values):
    return zlib.crc32(np.asarray(values).astype("<i4").tobytes())


class TestGolden:
    """Integers alone: these values must never change, or old files give other pictures."""

    def test_table(self):
        assert crc(quantiles()) == 0x2C9488C1

    def test_first_values(self):
        assert (counter_noise(0, (3,)) * 4096).tolist() == [4178, -7436, 2487]

    @pytest.mark.parametrize(
        ("seed", "expected"),
        [
            (0, 0xA480694F),
            (1, 0x9FC3BC54),
            (0xFFFFFFFF, 0x4297B882),
            (0xFFFFFFFFFFFFFFFF, 0x1D9E4B9),
        ],
    )
    def test_streams(self, seed, expected):
        assert crc((counter_noise(seed, (1, 192, 4, 6)) * 4096).flatten()) == expected


class TestNormal:
    def test_table_is_that_of_a_normal_distribution(self):
        table = quantiles() / 4096
        assert table.mean() == 0
        assert (np.diff(table) >= 0).all()
        assert table.var() == pytest.approx(1, abs=1e-4)
        assert (table**4).mean() == pytest.approx(3, abs=0.01)

    def test_a_stream_is_normal_and_white(self):
        noise = counter_noise(7, (200_000,))
        assert noise.mean().abs() < 0.01
        assert noise.std() == pytest.approx(1, abs=0.01)
        assert (noise[1:] * noise[:-1]).mean().abs() < 0.01

    def test_seeds_are_unrelated(self):
        one, other = counter_noise(1, (50_000,)), counter_noise(2, (50_000,))
        assert (one * other).mean().abs() < 0.02


class TestShapes:
    @pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (1, 3, 2, 7)])
    def test_shape_and_type(self, shape):
        noise = counter_noise(3, shape)
        assert noise.shape == shape
        assert noise.dtype == torch.float32

    def test_the_shape_only_arranges_the_stream(self):
        assert torch.equal(counter_noise(3, (2, 5)).flatten(), counter_noise(3, (11,))[:10])


class TestSeeds:
    def test_the_global_generators_do_not_matter(self):
        torch.manual_seed(1)
        np.random.seed(1)
        one = counter_noise(5, (64,))
        torch.manual_seed(2)
        np.random.seed(2)
        before = torch.get_rng_state()
        assert torch.equal(counter_noise(5, (64,)), one)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**64 - 1])
    def test_the_whole_range(self, seed):
        assert counter_noise(seed, (4,)).isfinite().all()
        assert step_generator(seed).initial_seed() == seed

    @pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, None])
    def test_others_are_refused(self, seed):
        for function in (lambda: counter_noise(seed, (4,)), lambda: step_generator(seed)):
            with pytest.raises(OptionError, match=r"give an integer from 0 to 2\*\*64 - 1"):
                function()

    def test_step_generator_is_on_the_cpu_and_its_own(self):
        draws = [torch.randn(4, generator=step_generator(9)) for _ in range(2)]
        assert torch.equal(*draws)
        assert step_generator(9).device.type == "cpu"
