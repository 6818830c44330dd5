"""Picture metrics and Bjontegaard deltas; torch is imported when one is used."""
