"""Latent fusion: decoded latents made more realistic, or more faithful, by latent diffusion."""

from __future__ import annotations

from diffusers_codec.pipelines.latent_fusion.pipeline_latent_fusion import (
    FusedLatents,
    LatentFusionPipeline,
)
from diffusers_codec.pipelines.latent_fusion.sampling import default_scheduler, mix, sample

__all__ = ["FusedLatents", "LatentFusionPipeline", "default_scheduler", "mix", "sample"]
