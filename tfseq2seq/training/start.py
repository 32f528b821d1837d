"""Initial embeddings from files of word vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfseq2seq.features.word_vectors import embedding_matrix, read_vectors
from tfseq2seq.files import expanded_path
from tfseq2seq.run import Run


def load_vectors(model: Any, run: Run, log: Callable[[str], None] = print) -> None:
    """Initializes embeddings with the vector files of the recipe. Tokens without a vector get random vectors."""
    spec, seed = run.recipe.model, run.recipe.seed
    for side, path, features in (
        ("source", spec.source_vectors, run.source.features),
        ("target", spec.target_vectors, run.target),
    ):
        if not path or features is None:
            continue
        tokens = features.vocabulary.tokens
        vectors = read_vectors(expanded_path(path), set(tokens))
        # Vectors in files have a standard deviation of about 1. The model multiplies its embeddings by width^0.5.
        matrix, found = embedding_matrix(tokens, vectors, spec.width, seed, spec.width**-0.5)
        getattr(model, f"{side}_embedding").embeddings.assign(matrix)
        log(f"{side} vectors: {found:,} of {len(tokens):,} tokens found in {path}")
