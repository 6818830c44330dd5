"""Latent fusion: a distortion-perception dial on any CompressAI codec."""
