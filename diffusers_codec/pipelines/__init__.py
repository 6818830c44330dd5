"""Pipelines: one folder each."""
