"""Conformer block (Gulati et al. 2020).

    x ── + ½ feed-forward ── + self-attention ── + convolution ── + ½ feed-forward ── norm ──>

Each part normalizes its input and drops some of its output. Inside the convolution a layer norm stands where the paper
has batch norm: statistics of a batch would let padding and batch mates change an utterance, and serving differ from
training.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.attention import MultiHeadAttention
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.transformer import FeedForward
from tfseq2seq.recipe import from_dict, to_dict
from tfseq2seq.spec import ConformerEncoderSpec


class ConvolutionPart(keras.layers.Layer):
    """Gated pointwise, depthwise and pointwise convolution over positions.

    Args:
        width: D.
        kernel: positions under the depthwise convolution.
        causal: they end at the position itself instead of being centered on it.
        initializer: of the weights.
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
        """[B, T, D] with mask [B, T] to [B, T, D]."""
        values, gates = ops.split(self.gated(inputs), 2, axis=-1)
        x = values * ops.sigmoid(gates) * ops.expand_dims(ops.cast(mask, values.dtype), -1)
        left = self.kernel - 1 if self.causal else self.kernel // 2
        x = self.depthwise(ops.pad(x, ((0, 0), (left, self.kernel - 1 - left), (0, 0))))
        return self.pointwise(ops.silu(self.norm(x)))

    def stream(self, inputs: Any, mask: Any, past: Any) -> tuple[Any, Any]:
        """As `call` of a causal one, for positions that follow others.

        Args:
            inputs: [B, C, D].
            mask: [B, C].
            past: [B, kernel - 1, D], what the depthwise convolution read before; zeros at the start.

        Returns:
            [B, C, D], and the past of the next positions.
        """
        values, gates = ops.split(self.gated(inputs), 2, axis=-1)
        read = values * ops.sigmoid(gates) * ops.expand_dims(ops.cast(mask, values.dtype), -1)
        read = ops.concatenate([past, read], axis=1)
        count = ops.shape(inputs)[1]
        return self.pointwise(ops.silu(self.norm(self.depthwise(read)))), read[:, count:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


class ConformerBlock(keras.layers.Layer):
    """One block; see the picture above.

    Args:
        spec: sizes and kinds.
        width: D.
        initializer: of the weight matrices.
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
        """[B, T, D] to [B, T, D].

        Args:
            mask: [B, T], True on real positions.
            bias: [B, T or 1, T] over what attention sees.
            positions: [T] int.
        """

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
        """The cache before the first chunk: keys and values of `past` positions, and what the convolution reads."""
        shape = (batch, self.attention.groups, past, self.attention.head_width)
        keys, values = (ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2))
        read = ops.zeros((batch, self.spec.kernel - 1, self.width), dtype=self.compute_dtype)
        return {"keys": keys, "values": values, "read": read}

    def stream(
        self, inputs: Any, mask: Any, bias: Any, positions: Any, key_positions: Any, cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """As `call`, for the C positions of a chunk that follows others.

        Args:
            inputs: [B, C, D].
            mask: [B, C].
            bias: [B, C or 1, P + C] over the P positions kept and the chunk's own.
            positions: [C] int, of the chunk.
            key_positions: [P + C] int.
            cache: from `start_stream` or the chunk before.

        Returns:
            [B, C, D] and the cache for the next chunk.
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
