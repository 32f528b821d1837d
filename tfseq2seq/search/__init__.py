"""Search: output sequences from a step function. Knows no model; see `beam.py` for what a step function is."""
