"""Lets `DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo)` find the class.

It needs the package: pip install compressai-gen
"""

from diffusers_codec.pipelines.diffeic.pipeline_diffeic import DiffEICPipeline as Pipeline

__all__ = ["Pipeline"]
