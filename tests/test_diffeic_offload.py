"""DiffEICPipeline with parts that accelerate brings to the device when they are used."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from small_diffeic import small_pipeline
from small_models import picture


class Noted(ModelHook):
    """What `enable_model_cpu_offload` gives every part, without a device to move it to."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def pre_forward(self, module, *args, **options):
        self.seen.append(self.name)
        return args, options


@pytest.fixture
def noted():
    pipe, seen = small_pipeline(), []
    for name in ("codec", "vae", "unet", "control"):
        add_hook_to_module(getattr(pipe, name), Noted(name, seen))
    return pipe, seen


def test_every_part_is_brought_before_it_is_used(noted):
    pipe, seen = noted
    data = pipe.compress(picture(64, 64)[0])
    assert seen == ["codec", "vae"]
    seen.clear()
    pipe.decompress(data, num_inference_steps=1)
    assert seen == ["codec", "control", "unet", "vae"]


def test_a_control_module_taken_apart_still_has_its_name():
    """As with `enable_sequential_cpu_offload`, which leaves only shapes in the module."""
    from accelerate import cpu_offload

    control = small_pipeline().control
    name = control.fingerprint()
    cpu_offload(control, torch.device("cpu"))
    assert next(control.parameters()).is_meta
    assert control.fingerprint() == name
