"""Modalities: one object for each kind of source, none, text or audio."""
