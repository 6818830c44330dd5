"""A pipeline and the component it is made of.

A component that users may replace is a required argument, annotated with its class. The module
that defines it has `ModelMixin` among its names: diffusers looks for it there when it loads a
saved pipeline.
"""

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor


class TinyFilter(ModelMixin, ConfigMixin):
    """A 3x3 convolution that starts as the identity, on images (B, 3, H, W) in [-1, 1]."""

    @register_to_config
    def __init__(self, channels: int = 3):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        torch.nn.init.dirac_(self.conv.weight)
        torch.nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return self.conv(x)


class TinyPipeline(DiffusionPipeline):
    """Filters images, e.g. decoded ones."""

    def __init__(self, filter: TinyFilter):
        super().__init__()
        self.register_modules(filter=filter)
        self.image_processor = VaeImageProcessor(do_resize=False)

    @torch.no_grad()
    def __call__(self, image, output_type="pil", return_dict=True):
        x = self.image_processor.preprocess(image).to(self.filter.device, self.filter.dtype)
        images = self.image_processor.postprocess(self.filter(x), output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)
