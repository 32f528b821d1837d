"""Conformer block (Gulati et al. 2020).

    x ── + ½ feed-forward ── + self-attention ── + convolution ── + ½ feed-forward ── norm ──>

Each sublayer normalizes its input and has dropout on its output. The convolution uses layer normalization where the
paper uses batch normalization. With batch statistics, padding and other utterances of a batch would change an
utterance, and serving would differ from training.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.attention import MultiHeadAttention
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.rematerialization import Rematerializable, recomputed
from tfseq2seq.layers.transformer import FeedForward
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import ConformerEncoderSpec


class ConvolutionPart(keras.layers.Layer):
    """The convolution sublayer: a gated pointwise, a depthwise and a pointwise convolution over positions.

    Args:
        width: D.
        kernel: the kernel size of the depthwise convolution, in positions.
        causal: whether the kernel ends at a position instead of being centered on it.
        initializer: the initializer of the weights.
    """

    def __init__(self, width: int, kernel: int, causal: bool, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {"width": width, "kernel": kernel, "causal": causal, "initializer": initializer}
        self.width, self.kernel, self.causal = width, kernel, causal
        policy = self.dtype_policy
        self.gated = SequenceDense(2 * width, kernel_initializer=initializer, name="gated", dtype=policy)
        self.depthwise = keras.layers.DepthwiseConv1D(
            kernel,
            padding="valid",
            data_format="channels_last",
            depthwise_initializer=initializer,
            name="depthwise",
            dtype=policy,
        )
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)
        self.pointwise = SequenceDense(width, kernel_initializer=initializer, name="pointwise", dtype=policy)

    def build(self, input_shape: Any) -> None:
        for layer in (self.gated, self.depthwise, self.norm, self.pointwise):
            layer.build((None, None, self.width))

    def call(self, inputs: Any, mask: Any) -> Any:
        """Returns [B, T, D] for inputs [B, T, D] with mask [B, T]."""
        values, gates = ops.split(self.gated(inputs), 2, axis=-1)
        x = values * ops.sigmoid(gates) * ops.expand_dims(ops.cast(mask, values.dtype), -1)
        left = self.kernel - 1 if self.causal else self.kernel // 2
        x = self.depthwise(ops.pad(x, ((0, 0), (left, self.kernel - 1 - left), (0, 0))))
        return self.pointwise(ops.silu(self.norm(x)))

    def stream(self, inputs: Any, mask: Any, past: Any) -> tuple[Any, Any]:
        """Computes the same as a causal `call`, for one chunk of a stream.

        Args:
            inputs: [B, C, D], the chunk.
            mask: [B, C].
            past: [B, kernel - 1, D], the last inputs of the depthwise convolution before the chunk; zeros at the start.

        Returns:
            The outputs [B, C, D], and `past` for the next chunk.
        """
        values, gates = ops.split(self.gated(inputs), 2, axis=-1)
        x = values * ops.sigmoid(gates) * ops.expand_dims(ops.cast(mask, values.dtype), -1)
        x = ops.concatenate([past, x], axis=1)
        count = ops.shape(inputs)[1]
        return self.pointwise(ops.silu(self.norm(self.depthwise(x)))), x[:, count:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


class ConformerBlock(Rematerializable, keras.layers.Layer):
    """A Conformer block; see the diagram at the top of this module.

    Args:
        spec: the settings of the encoder.
        width: D.
        initializer: the initializer of the weight matrices.
    """

    def __init__(self, spec: ConformerEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width, self.initializer = spec, width, initializer
        policy = self.dtype_policy
        self.feed_forwards = [
            FeedForward(width, spec.ffn, "silu", spec.ffn_dropout, initializer, name=f"feed_forward_{i}", dtype=policy)
            for i in (0, 1)
        ]
        self.attention = MultiHeadAttention(
            width,
            spec.heads,
            spec.kv_heads,
            positions=spec.positions,
            relative_distance=spec.relative_distance,
            dropout=spec.attention_dropout,
            initializer=initializer,
            name="attention",
            dtype=policy,
        )
        self.convolution = ConvolutionPart(
            width, spec.kernel, spec.chunk > 0, initializer, name="convolution", dtype=policy
        )
        names = ("first_norm", "attention_norm", "convolution_norm", "second_norm", "last_norm")
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=name, dtype=policy) for name in names]
        self.dropout = keras.layers.Dropout(spec.dropout, dtype=policy)

    def build(self, input_shape: Any) -> None:
        for layer in (*self.feed_forwards, self.attention, self.convolution, *self.norms):
            layer.build((None, None, self.width))

    def call(self, inputs: Any, mask: Any, bias: Any, positions: Any, training: bool | None = None) -> Any:
        """Returns [B, T, D] for inputs [B, T, D].

        Args:
            mask: [B, T], True on real positions.
            bias: [B, T or 1, T], the attention bias.
            positions: [T] int.
        """
        if training and self.rematerialize:
            return recomputed(self, lambda x: [self._compute(x, mask, bias, positions, True)], inputs)[0]
        return self._compute(inputs, mask, bias, positions, training)

    def _compute(self, inputs: Any, mask: Any, bias: Any, positions: Any, training: bool | None) -> Any:
        """As `call`, with all activations kept for the backward pass."""

        def drop(x: Any) -> Any:
            return self.dropout(x, training=training)

        first, attention_norm, convolution_norm, second, last = self.norms
        x = inputs + 0.5 * drop(self.feed_forwards[0](first(inputs), training=training))
        attended = self.attention.queries_keys_values(attention_norm(x), positions)
        x = x + drop(self.attention(*attended, bias, positions, positions, training=training)[0])
        x = x + drop(self.convolution(convolution_norm(x), mask))
        x = x + 0.5 * drop(self.feed_forwards[1](second(x), training=training))
        return last(x)

    def start_stream(self, batch: Any, past: int) -> dict[str, Any]:
        """Returns the cache before the first chunk: keys and values of `past` positions, and the convolution's past."""
        shape = (batch, self.attention.groups, past, self.attention.head_width)
        keys, values = (ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2))
        read = ops.zeros((batch, self.spec.kernel - 1, self.width), dtype=self.compute_dtype)
        return {"keys": keys, "values": values, "read": read}

    def stream(
        self, inputs: Any, mask: Any, bias: Any, positions: Any, key_positions: Any, cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Computes the same as `call`, for one chunk of a stream.

        Args:
            inputs: [B, C, D], the chunk.
            mask: [B, C].
            bias: [B, C or 1, P + C], the attention bias of the P cached positions and of the chunk.
            positions: [C] int, the positions of the chunk.
            key_positions: [P + C] int, the cached positions and the positions of the chunk.
            cache: the cache from `start_stream` or from the previous chunk.

        Returns:
            The outputs [B, C, D], and the cache for the next chunk.
        """
        first, attention_norm, convolution_norm, second, last = self.norms
        x = inputs + 0.5 * self.feed_forwards[0](first(inputs), training=False)
        queries, keys, values = self.attention.queries_keys_values(attention_norm(x), positions)
        keys = ops.concatenate([cache["keys"], keys], axis=2)
        values = ops.concatenate([cache["values"], values], axis=2)
        x = x + self.attention(queries, keys, values, bias, positions, key_positions, training=False)[0]
        convolved, read = self.convolution.stream(convolution_norm(x), mask, cache["read"])
        x = x + convolved
        x = x + 0.5 * self.feed_forwards[1](second(x), training=False)
        count = ops.shape(inputs)[1]
        return last(x), {"keys": keys[:, :, count:], "values": values[:, :, count:], "read": read}

    def get_config(self) -> dict[str, Any]:
        own = {"spec": to_dict(self.spec), "width": self.width, "initializer": self.initializer}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ConformerBlock:
        return cls(**{**config, "spec": from_dict(ConformerEncoderSpec, config["spec"])})
