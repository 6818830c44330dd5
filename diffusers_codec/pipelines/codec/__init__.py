"""A learned image codec as a pipeline."""

from __future__ import annotations

from diffusers_codec.pipelines.codec.pipeline_codec import CodecPipeline, CodecPipelineOutput

__all__ = ["CodecPipeline", "CodecPipelineOutput"]
