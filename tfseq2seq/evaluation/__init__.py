"""Corpus scores with confidence intervals, comparisons, and pictures of what a model does."""
