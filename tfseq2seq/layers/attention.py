"""Multi-head attention with grouped keys and values, rotary and relative positions (Vaswani et al. 2017).

Projection and attention are separate, so that a decoder can cache keys and values between steps:

    x [B, T, D] --queries_keys_values--> queries [B, H, T, d], keys and values [B, G, T, d]    self-attention
    x [B, T, D] --queries--> [B, H, T, d]    memory [B, S, M] --keys_values--> [B, G, S, d]    cross-attention
    call(queries, keys, values, ...) --> output [B, T, D]
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense, side_by_side
from tfseq2seq.layers.positions import rotate


class MultiHeadAttention(keras.layers.Layer):
    """Scaled dot-product attention with several heads.

    Args:
        width: D, the width of queries and output.
        heads: H, the number of heads.
        kv_heads: G, the number of key and value heads. H / G query heads share one (Ainslie et al. 2023). 0 means H.
        memory_width: the width of the memory, for cross-attention. 0 means self-attention, which projects queries, keys
            and values with one matrix.
        positions: "rotary" rotates queries and keys of self-attention by their position (Su et al. 2021). "relative"
            adds a learned vector for each clipped distance to keys and values (Shaw et al. 2018). Other values have no
            effect here.
        relative_distance: the maximum distance. Larger distances are clipped.
        dropout: the dropout rate on attention weights.
        initializer: the initializer of the weight matrices.
        head_width: d, the width of a head. 0 means D / H.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int = 0,
        memory_width: int = 0,
        positions: str = "none",
        relative_distance: int = 16,
        dropout: float = 0.0,
        initializer: str = "glorot_uniform",
        head_width: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width, self.heads, self.groups = width, heads, kv_heads or heads
        self.memory_width, self.head_width = memory_width, head_width or width // heads
        self.positions, self.relative_distance = positions, relative_distance
        self.dropout_rate, self.initializer = dropout, initializer

        def dense(*widths: int, name: str) -> SequenceDense:
            kernels = side_by_side(initializer, widths)
            return SequenceDense(
                sum(widths), parts=widths, kernel_initializer=kernels, name=name, dtype=self.dtype_policy
            )

        queries, keys = heads * self.head_width, self.groups * self.head_width
        if memory_width:
            self.query_dense = dense(queries, name="query")
            self.key_value_dense = dense(keys, keys, name="key_value")
        else:
            self.query_key_value_dense = dense(queries, keys, keys, name="query_key_value")
        self.output_dense = dense(width, name="output")
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.memory_width:
            self.query_dense.build((None, None, self.width))
            self.key_value_dense.build((None, None, self.memory_width))
        else:
            self.query_key_value_dense.build((None, None, self.width))
        self.output_dense.build((None, None, self.heads * self.head_width))
        if self.positions == "relative":
            shape = (2 * self.relative_distance + 1, self.head_width)
            self.relative_keys = self.add_weight(shape=shape, initializer="glorot_uniform", name="relative_keys")
            self.relative_values = self.add_weight(shape=shape, initializer="glorot_uniform", name="relative_values")

    def queries_keys_values(self, inputs: Any, positions: Any) -> tuple[Any, Any, Any]:
        """Projects [B, T, D] at positions [T] to queries [B, H, T, d] and keys and values [B, G, T, d]."""
        packed = self._split(self.query_key_value_dense(inputs), self.heads + 2 * self.groups)
        queries_keys, values = ops.split(packed, [self.heads + self.groups], axis=1)
        if self.positions == "rotary":
            queries_keys = rotate(queries_keys, positions)
        queries, keys = ops.split(queries_keys, [self.heads], axis=1)
        return queries, keys, values

    def queries(self, inputs: Any) -> Any:
        """Projects [B, T, D] to queries [B, H, T, d] for cross-attention."""
        return self._split(self.query_dense(inputs), self.heads)

    def keys_values(self, memory: Any) -> tuple[Any, Any]:
        """Projects a memory [B, S, M] to keys and values [B, G, S, d]."""
        keys, values = ops.split(self._split(self.key_value_dense(memory), 2 * self.groups), 2, axis=1)
        return keys, values

    def call(
        self,
        queries: Any,
        keys: Any,
        values: Any,
        bias: Any,
        query_positions: Any = None,
        key_positions: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Attends from queries [B, H, Q, d] to keys and values [B, G, S, d].

        Args:
            bias: [B or 1, Q or 1, S], from `attention_bias`, or [B or 1, H, Q, S]; it is added to the scores.
            query_positions: [Q] int, for relative attention.
            key_positions: [S] int, for relative attention.

        Returns:
            Output [B, Q, D] and weights [B, H, Q, S].
        """
        rows = ops.shape(queries)[2]
        scaled = queries * self.head_width**-0.5
        # Query heads that share a key head become rows of the same matrix product.
        grouped = ops.reshape(scaled, (-1, self.groups, (self.heads // self.groups) * rows, self.head_width))
        scores = self._ungroup(ops.matmul(grouped, ops.swapaxes(keys, -1, -2)), rows, ops.shape(keys)[2])
        if self.positions == "relative":
            indices = self._relative(query_positions, key_positions)
            scores = scores + ops.einsum("bhqd,qsd->bhqs", scaled, ops.take(self._table("keys"), indices, axis=0))
        scores = scores + ops.cast(bias if len(bias.shape) == 4 else ops.expand_dims(bias, 1), scores.dtype)
        weights = ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=-1), scores.dtype)
        dropped = self.dropout(weights, training=training)
        grouped = ops.reshape(dropped, (-1, self.groups, (self.heads // self.groups) * rows, ops.shape(keys)[2]))
        context = self._ungroup(ops.matmul(grouped, values), rows, self.head_width)
        if self.positions == "relative":
            context = context + ops.einsum("bhqs,qsd->bhqd", dropped, ops.take(self._table("values"), indices, axis=0))
        if context.shape[2] != 1:
            context = ops.transpose(context, (0, 2, 1, 3))
        return self.output_dense(ops.reshape(context, (-1, rows, self.heads * self.head_width))), weights

    def _split(self, inputs: Any, heads: int) -> Any:
        """Splits [B, T, heads * d] into heads [B, heads, T, d]."""
        # With one row, as in greedy search, a transpose would not change the order of the values.
        if inputs.shape[1] == 1:
            return ops.reshape(inputs, (-1, heads, 1, self.head_width))
        split = ops.reshape(inputs, (-1, ops.shape(inputs)[1], heads, self.head_width))
        return ops.transpose(split, (0, 2, 1, 3))

    def _ungroup(self, inputs: Any, rows: Any, last: Any) -> Any:
        return inputs if self.groups == self.heads else ops.reshape(inputs, (-1, self.heads, rows, last))

    def _relative(self, query_positions: Any, key_positions: Any) -> Any:
        distance = ops.expand_dims(key_positions, 0) - ops.expand_dims(query_positions, 1)
        return ops.clip(distance, -self.relative_distance, self.relative_distance) + self.relative_distance

    def _table(self, which: str) -> Any:
        weight = self.relative_keys if which == "keys" else self.relative_values
        return ops.cast(weight, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "kv_heads": self.groups,
            "memory_width": self.memory_width,
            "positions": self.positions,
            "relative_distance": self.relative_distance,
            "dropout": self.dropout_rate,
            "initializer": self.initializer,
            "head_width": self.head_width,
        }
