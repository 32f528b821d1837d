"""Token embeddings, and an output layer that can share the matrix of an embedding."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class Output(keras.layers.Layer):
    """Maps hidden vectors [B, T, D] to logits [B, T, V].

    The matrix is the transposed embedding (tied weights, Press & Wolf 2017), with a bias if `biased`. If `embedding` is
    None, the layer has a separate matrix and a bias.
    """

    def __init__(
        self,
        width: int,
        size: int,
        initializer: str,
        embedding: keras.layers.ReversibleEmbedding | None,
        biased: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width, self.size, self.initializer, self.embedding = width, size, initializer, embedding
        self.biased, self.bias = biased or embedding is None, None

    def build(self, input_shape: Any) -> None:
        if self.embedding is not None:
            self.embedding.build(None)
        else:
            self.kernel = self.add_weight(shape=(self.width, self.size), initializer=self.initializer, name="kernel")
        if self.biased:
            self.bias = self.add_weight(shape=(self.size,), initializer="zeros", name="bias")

    def columns(self, tokens: Any = None) -> dict[str, Any]:
        """Returns the "matrix" [D, V] and the "bias" [V], if there is one, of all tokens or of `tokens` [V'].

        Loops over time call this once. Transposing the embedding takes as much time as the product of a step.
        """
        parts = {} if self.bias is None else {"bias": self.bias}
        if self.embedding is None:
            parts["matrix"] = self.kernel
        if tokens is not None:
            parts = {name: ops.take(part, tokens, axis=-1) for name, part in parts.items()}
        if self.embedding is not None:
            rows = self.embedding.embeddings
            parts["matrix"] = ops.transpose(rows if tokens is None else ops.take(rows, tokens, axis=0))
        return {name: ops.cast(part, self.compute_dtype) for name, part in parts.items()}

    def call(self, inputs: Any, columns: dict[str, Any] | None = None) -> Any:
        parts = self.columns() if columns is None else columns
        rows = ops.matmul(ops.reshape(inputs, (-1, self.width)), parts["matrix"])
        if "bias" in parts:
            rows = rows + parts["bias"]
        size = parts["matrix"].shape[1]
        return ops.reshape(rows, (-1, ops.shape(inputs)[1], ops.shape(rows)[1] if size is None else size))


def token_embedding(width: int, size: int, name: str) -> keras.layers.ReversibleEmbedding:
    """Returns a token embedding with an initial standard deviation of D^-0.5, which suits a tied output layer.

    Larger values also slow down some CPUs, because they lead to denormal numbers.
    """
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    return keras.layers.ReversibleEmbedding(size, width, embeddings_initializer=initializer, name=name)
