"""Training: one loop on accelerate, recipes as frozen dataclasses."""
