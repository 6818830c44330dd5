"""A complete plugin of compressai-gen, small enough to read in one go."""
