"""DiffEIC: extreme compression with a latent diffusion prior."""

from __future__ import annotations

from diffusers_codec.pipelines.diffeic.pipeline_diffeic import DiffEICPipeline
from diffusers_codec.pipelines.diffeic.sampling import default_scheduler, sample

__all__ = ["DiffEICPipeline", "default_scheduler", "sample"]
