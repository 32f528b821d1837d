"""Transformer blocks (Vaswani et al. 2017) with layer normalization before (Xiong et al. 2020) or after sublayers."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.attention import MultiHeadAttention
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.local_attention import LocalAttention
from tfseq2seq.layers.positions import BucketedPositions, PositionedEmbedding
from tfseq2seq.layers.rematerialization import Rematerializable, recomputed
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import TransformerSpec


@keras.saving.register_keras_serializable("tfseq2seq")
def approximate_gelu(inputs: Any) -> Any:
    """GELU with a tanh in place of the error function (Hendrycks & Gimpel 2016)."""
    return keras.activations.gelu(inputs, approximate=True)


# What gated activations apply to the half that is not linear.
_GATES: dict[str, Any] = {"swiglu": "silu", "geglu": approximate_gelu}


class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between them, which can be gated (SwiGLU and GEGLU, Shazeer 2020).

    Args:
        width: D, the width of input and output.
        inner: the inner width.
        activation: "swiglu" or "geglu", or the name of a Keras activation such as "relu", "gelu" (exact) or "silu".
        dropout: the dropout rate on the inner activations.
        initializer: the initializer of the weight matrices.
    """

    def __init__(self, width: int, inner: int, activation: str, dropout: float, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "inner": inner,
            "activation": activation,
            "dropout": dropout,
            "initializer": initializer,
        }
        self.gated = activation in _GATES
        shared: dict[str, Any] = {"kernel_initializer": initializer, "dtype": self.dtype_policy}
        self.inner_dense = SequenceDense(inner, activation=_GATES.get(activation, activation), name="inner", **shared)
        self.gate = SequenceDense(inner, name="gate", **shared) if self.gated else None
        self.outer_dense = SequenceDense(width, name="outer", **shared)
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        for layer in (self.inner_dense, self.gate):
            if layer is not None:
                layer.build((None, None, self.settings["width"]))
        self.outer_dense.build((None, None, self.settings["inner"]))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns [B, T, D] for inputs [B, T, D]."""
        hidden = self.inner_dense(inputs)
        if self.gate is not None:
            hidden = hidden * self.gate(inputs)
        return self.outer_dense(self.dropout(hidden, training=training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


def layer_norm(spec: TransformerSpec, name: str, dtype: Any = None) -> Any:
    """Returns a normalization of an encoder or decoder."""
    if spec.norm_kind == "rms":
        return keras.layers.RMSNormalization(epsilon=spec.norm_epsilon, name=name, dtype=dtype)
    return keras.layers.LayerNormalization(epsilon=spec.norm_epsilon, name=name, dtype=dtype)


def positioned_embedding(spec: TransformerSpec, width: int) -> PositionedEmbedding:
    """Returns the layer that prepares the embeddings of an encoder or decoder."""
    norm_epsilon = spec.norm_epsilon if spec.embedding_norm else 0.0
    return PositionedEmbedding(
        width,
        spec.positions,
        spec.max_positions,
        spec.dropout,
        norm_epsilon,
        spec.embedding_scale,
        name="positions",
    )


def bucketed_positions(spec: TransformerSpec, causal: bool) -> BucketedPositions | None:
    """Returns the layer that all blocks of an encoder or decoder have in common; None with other positions."""
    if spec.positions != "bucketed":
        return None
    return BucketedPositions(spec.heads, spec.position_buckets, spec.relative_distance, causal, name="position_bias")


def with_positions(bias: Any, layer: BucketedPositions | None, query_positions: Any, key_positions: Any) -> Any:
    """Returns the bias of self-attention [B or 1, Q or 1, S], with that of positions [B or 1, H, Q, S]."""
    if layer is None:
        return bias
    return ops.expand_dims(bias, 1) + layer(query_positions, key_positions)


class TransformerBlock(Rematerializable, keras.layers.Layer):
    """Self-attention, cross-attention to a memory if there is one, and feed-forward layers.

    Each sublayer has a residual connection and layer normalization. The encoder (without memory), teacher forcing
    (without cache) and a decoding step (with cache) use the same `call`, so training and search cannot differ.

    Args:
        spec: the settings of the encoder or decoder.
        width: D.
        memory_width: the width of the memory. 0 means no cross-attention.
        initializer: the initializer of the weight matrices.
        window: for an encoder, how many positions on each side a position attends to; 0 for all. See
            `layers/local_attention.py`.
        global_positions: with a window, the number of first positions that all attend to and that attend to all.
    """

    def __init__(
        self,
        spec: TransformerSpec,
        width: int,
        memory_width: int,
        initializer: str,
        window: int = 0,
        global_positions: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.window, self.global_positions = window, global_positions
        self.spec, self.width, self.pre = spec, width, spec.norm == "pre"
        self.memory_width, self.initializer = memory_width, initializer
        policy = self.dtype_policy
        shared: dict[str, Any] = {
            "dropout": spec.attention_dropout,
            "initializer": initializer,
            "head_width": spec.head_width,
            "dtype": policy,
        }
        own: dict[str, Any] = {
            "kv_heads": spec.kv_heads,
            "positions": spec.positions,
            "relative_distance": spec.relative_distance,
        }
        self.self_attention: Any
        if window:
            self.self_attention = LocalAttention(
                width, spec.heads, window, global_positions, name="self_attention", **own, **shared
            )
        else:
            self.self_attention = MultiHeadAttention(width, spec.heads, name="self_attention", **own, **shared)
        self.cross_attention: Any = None
        if memory_width:
            self.cross_attention = MultiHeadAttention(
                width, spec.heads, spec.kv_heads, memory_width, name="memory_attention", **shared
            )
        self.feed_forward = FeedForward(
            width, spec.ffn, spec.activation, spec.ffn_dropout, initializer, name="feed_forward", dtype=policy
        )
        self.self_norm = layer_norm(spec, "self_norm", policy)
        self.cross_attention_norm = layer_norm(spec, "memory_norm", policy) if memory_width else None
        self.feed_forward_norm = layer_norm(spec, "feed_forward_norm", policy)
        self.dropout = keras.layers.Dropout(spec.dropout, dtype=policy)

    def build(self, input_shape: Any) -> None:
        for part in (self.self_attention, self.cross_attention, self.feed_forward):
            if part is not None:
                part.build((None, None, self.width))
        for norm in (self.self_norm, self.cross_attention_norm, self.feed_forward_norm):
            if norm is not None:
                norm.build((None, None, self.width))

    def call(
        self,
        inputs: Any,
        bias: Any,
        positions: Any,
        memory: Any = None,
        memory_bias: Any = None,
        cache: Any = None,
        rows: Any = None,
        key_positions: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any, Any]:
        """Computes the block for inputs [B, Q, D].

        Args:
            bias: [B or 1, Q or 1, S] or [B or 1, H, Q, S], the bias of self-attention.
            positions: [Q] int, the positions of the inputs.
            memory: the keys and values from `cross_attention.keys_values`.
            memory_bias: [B, 1, S'], the bias of cross-attention.
            cache: the keys and values [B, G, N, d] of earlier steps. Those of the inputs are written into it.
            rows: with a cache, the rows to write to, from `cache_rows`.
            key_positions: with a cache, the positions of its entries, [N] int.

        Returns:
            The output [B, Q, D], the weights of cross-attention [B, H, Q, S'] (None without a memory), and the keys and
            values of self-attention, which are the updated cache (None if they are computed twice).
        """
        if training and self.rematerialize and cache is None:
            context = () if memory is None else tuple(memory)
            # The bias of positions is learned. That of a mask is not, and needs no gradients.
            learned = [bias] if len(bias.shape) == 4 else []

            def compute(x: Any, *given: Any) -> list[Any]:
                own, context = (given[0], given[1:]) if learned else (bias, given)
                output, weights, _ = self._compute(x, own, positions, context, memory_bias, training=True)
                return [output] if weights is None else [output, weights]

            output, *weights = recomputed(self, compute, inputs, *learned, *context)
            return output, weights[0] if weights else None, None
        return self._compute(inputs, bias, positions, memory, memory_bias, cache, rows, key_positions, training)

    def _compute(
        self,
        inputs: Any,
        bias: Any,
        positions: Any,
        memory: Any = None,
        memory_bias: Any = None,
        cache: Any = None,
        rows: Any = None,
        key_positions: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any, Any]:
        """As `call`, with all activations kept for the backward pass."""

        def attend_self(x: Any) -> Any:
            nonlocal cache
            queries, *own = self.self_attention.queries_keys_values(x, positions)
            if cache is not None:
                own = [write_rows(old, new, rows) for old, new in zip(cache, own, strict=True)]
            cache = tuple(own)
            own_positions = positions if key_positions is None else key_positions
            return self.self_attention(queries, *own, bias, positions, own_positions, training=training)[0]

        weights = None

        def attend_memory(x: Any) -> Any:
            nonlocal weights
            queries = self.cross_attention.queries(x)
            output, weights = self.cross_attention(queries, *memory, memory_bias, training=training)
            return output

        x = self._part(inputs, attend_self, self.self_norm, training)
        if self.cross_attention is not None:
            x = self._part(x, attend_memory, self.cross_attention_norm, training)
        x = self._part(x, lambda y: self.feed_forward(y, training=training), self.feed_forward_norm, training)
        return x, weights, cache

    def _part(self, x: Any, part: Any, norm: Any, training: bool | None) -> Any:
        if self.pre:
            return x + self.dropout(part(norm(x)), training=training)
        return norm(x + self.dropout(part(x), training=training))

    def get_config(self) -> dict[str, Any]:
        # The fields that encoder and decoder share are enough for a block.
        spec = to_dict(self.spec)
        own = {
            "spec": {field.name: spec[field.name] for field in dataclasses.fields(TransformerSpec)},
            "width": self.width,
            "memory_width": self.memory_width,
            "initializer": self.initializer,
            "window": self.window,
            "global_positions": self.global_positions,
        }
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransformerBlock:
        return cls(**{**config, "spec": from_dict(TransformerSpec, config["spec"])})


def cache_rows(shape: Any, slot: Any, count: Any) -> Any:
    """Returns the row indices of cache entries, for `write_rows`.

    Args:
        shape: the shape [B, G, N, d] of the cache, which is viewed as B * G * N rows.
        slot: the index of the first entry along N.
        count: the number of entries.

    Returns:
        [B * G * count, 1] int32.
    """
    first = ops.expand_dims(ops.arange(shape[0] * shape[1], dtype="int32") * shape[2], 1)
    return ops.reshape(first + slot + ops.expand_dims(ops.arange(count, dtype="int32"), 0), (-1, 1))


def write_rows(cache: Any, entries: Any, rows: Any) -> Any:
    """Writes entries [B, G, count, d] at `rows` of a cache [B, G, N, d], and returns the new cache.

    It uses a scatter operation. On TensorFlow `ops.slice_update` is an XLA program, which is compiled in the first call
    and which TFLite does not support.
    """
    width = cache.shape[-1]
    flat = ops.scatter_update(
        ops.reshape(cache, (-1, width)), rows, ops.reshape(ops.cast(entries, cache.dtype), (-1, width))
    )
    return ops.reshape(flat, ops.shape(cache))
