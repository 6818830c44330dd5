"""Folders of pictures -> CompressAI-schema result files, from real files decoded elsewhere."""
