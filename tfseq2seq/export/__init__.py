"""Exported models: what they can be asked, how each format is written, and the proof that they answer as the run."""
