"""A zoo model: a class with `from_state_dict`, a factory with the arguments of CompressAI's."""

import torch
from compressai.models import MeanScaleHyperprior


class TinyHyperprior(MeanScaleHyperprior):
    """g_a, h_a, h_s and g_s of `mbt2018-mean`, with N = M = 16 channels."""

    def __init__(self, N=16, M=16, **kwargs):
        super().__init__(N, M, **kwargs)


def tiny_hyperprior(quality=1, metric="mse", pretrained=False, progress=True, **kwargs):
    """A model. There is nothing trained to download: `pretrained` fixes the random weights."""
    with torch.random.fork_rng(devices=[], enabled=pretrained):
        if pretrained:
            torch.manual_seed(quality)
        model = TinyHyperprior(**kwargs)
    if pretrained:
        model.update()  # the integer tables of the entropy coder
    return model
