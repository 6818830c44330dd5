"""CompressAI models, one file a family."""
