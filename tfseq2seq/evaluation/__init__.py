"""Corpus scores with confidence intervals, comparisons of systems, and plots of attention and embeddings."""
