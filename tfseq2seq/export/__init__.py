"""Trained models as functions of raw strings, and the artefacts made of them."""
