"""Rate-distortion losses."""
