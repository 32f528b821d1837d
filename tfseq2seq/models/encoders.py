"""Encoders: embedded source to memory.

Each takes [B, S, D], token embeddings or subsampled frames of audio, and its mask [B, S] and returns

    memory   [B, S', M]  what decoders attend to
    mask     [B, S']     its real positions
    summary  [B, Q]      one vector for the whole source, where recurrent decoders begin

and tells M and Q as `memory_width` and `summary_width`, and what S becomes as `positions`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.conformer import ConformerBlock
from tfseq2seq.layers.convolution import GatedConvolution, join_pairs, masked_pool
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.masks import attention_bias, chunk_mask, masked_mean
from tfseq2seq.layers.positions import PositionedEmbedding
from tfseq2seq.layers.recurrent import LAYERS, STATES
from tfseq2seq.layers.transformer import TransformerBlock
from tfseq2seq.spec import (
    ConformerEncoderSpec,
    ConvolutionEncoderSpec,
    EncoderSpec,
    PyramidEncoderSpec,
    RecurrentEncoderSpec,
    TransformerEncoderSpec,
    lookup,
)


class Encoder(keras.layers.Layer):
    """What all encoders are."""

    memory_width: int
    summary_width: int
    # Positions of the input that one position of the memory covers.
    stride: int = 1
    # Whether recurrent layers run in it, through `run_layer`.
    recurrent = False

    def positions(self, source: Any) -> Any:
        """S' of S, a number or a tensor."""
        return source


class NoEncoder(Encoder):
    """Of models without a source: a memory without positions."""

    memory_width = summary_width = 0

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        batch = ops.shape(inputs)[0]
        empty = ops.zeros((batch, 0), dtype=self.compute_dtype)
        return ops.zeros((batch, 0, 0), dtype=self.compute_dtype), ops.zeros((batch, 0), dtype="bool"), empty

    def positions(self, source: Any) -> Any:
        return 0


class TransformerEncoder(Encoder):
    """Stack of Transformer blocks; the summary is the mean over real positions."""

    def __init__(self, spec: TransformerEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = self.memory_width = self.summary_width = width
        self.embedding = PositionedEmbedding(width, spec.positions, spec.max_positions, spec.dropout, name="positions")
        self.blocks = [TransformerBlock(spec, width, 0, initializer, name=f"block_{i}") for i in range(spec.layers)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm") if spec.norm == "pre" else None

    def build(self, input_shape: Any) -> None:
        for layer in (self.embedding, *self.blocks, self.norm):
            if layer is not None:
                layer.build((None, None, self.width))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.embedding(inputs, training=training)
        bias = ops.expand_dims(attention_bias(mask, self.compute_dtype), 1)
        positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        for block in self.blocks:
            x, _, _ = block(x, bias, positions, training=training)
        if self.norm is not None:
            x = self.norm(x)
        return x, mask, masked_mean(x, mask)


class _Recurrent(Encoder):
    """What encoders of recurrent layers share.

    `run_layer` takes a layer over time and gives its outputs and last states. The TFLite export sets another one with
    the same result, as TFLite lacks the lists in which Keras collects outputs.
    """

    recurrent = True

    @staticmethod
    def run_layer(layer: Any, inputs: Any, mask: Any, training: bool | None) -> Any:
        return layer(inputs, mask=mask, training=training)


class RecurrentEncoder(_Recurrent):
    """Stack of recurrent layers; the summary is the top layer's last state, of both directions where there are two."""

    def __init__(self, spec: RecurrentEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        directions = 2 if spec.bidirectional else 1
        self.memory_width = directions * spec.units
        self.summary_width = directions * spec.units * STATES[spec.cell]
        self.embedding = PositionedEmbedding(width, dropout=spec.dropout, name="positions")
        self.dropout = keras.layers.Dropout(spec.dropout)
        self.stack = _recurrent_stack(spec.cell, spec.layers, spec.units, directions == 2, initializer)

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, None, self.width))
        for depth, layer in enumerate(self.stack):
            layer.build((None, None, self.memory_width if depth else self.width))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.embedding(inputs, training=training)
        states: list[Any] = []
        for depth, layer in enumerate(self.stack):
            if depth:
                x = self.dropout(x, training=training)
            x, *states = self.run_layer(layer, x, mask, training)
        return x, mask, ops.concatenate(states, axis=-1)


class ConvolutionEncoder(Encoder):
    """Residual gated convolutions over positions, averaged in groups at the end; the summary is the mean."""

    def __init__(self, spec: ConvolutionEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.pooling = width, spec.pooling
        self.stride = spec.pooling
        self.memory_width = self.summary_width = spec.filters
        self.embedding = PositionedEmbedding(width, "learned", spec.max_positions, spec.dropout, name="positions")
        self.project = SequenceDense(spec.filters, kernel_initializer=initializer, name="project")
        self.convolutions = [
            GatedConvolution(spec.filters, spec.kernel, spec.dropout, initializer, name=f"convolution_{i}")
            for i in range(spec.layers)
        ]

    def positions(self, source: Any) -> Any:
        return (source + self.pooling - 1) // self.pooling

    def build(self, input_shape: Any) -> None:
        for layer in (self.embedding, self.project):
            layer.build((None, None, self.width))
        for layer in self.convolutions:
            layer.build((None, None, self.memory_width))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.project(self.embedding(inputs, training=training))
        for convolution in self.convolutions:
            x = convolution(x, mask, training=training)
        if self.pooling > 1:
            x, mask = masked_pool(x, mask, self.pooling)
        return x, mask, masked_mean(x, mask)


class ConformerEncoder(Encoder):
    """Stack of Conformer blocks; the summary is the mean over real positions.

    With `spec.chunk` what it gives for a chunk depends on that chunk and earlier ones alone.
    """

    def __init__(self, spec: ConformerEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        self.memory_width = self.summary_width = width
        self.embedding = PositionedEmbedding(width, spec.positions, spec.max_positions, spec.dropout, name="positions")
        self.blocks = [ConformerBlock(spec, width, initializer, name=f"block_{i}") for i in range(spec.layers)]

    def build(self, input_shape: Any) -> None:
        layers: list[Any] = [self.embedding, *self.blocks]
        for layer in layers:
            layer.build((None, None, self.width))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.embedding(inputs, training=training)
        length = ops.shape(inputs)[1]
        seen = ops.expand_dims(mask, 1)
        if self.spec.chunk:
            seen = ops.logical_and(seen, chunk_mask(length, self.spec.chunk, self.spec.left_chunks))
        bias = attention_bias(seen, self.compute_dtype)
        positions = ops.arange(length, dtype="int32")
        for block in self.blocks:
            x = block(x, mask, bias, positions, training=training)
        return x, mask, masked_mean(x, mask)

    def start_stream(self, batch: Any) -> dict[str, Any]:
        """The cache before the first chunk, for an encoder with `spec.chunk`."""
        past = self.spec.chunk * self.spec.left_chunks
        blocks = [block.start_stream(batch, past) for block in self.blocks]
        return {"blocks": blocks, "frames_seen": ops.zeros((), dtype="int32")}

    def stream(self, inputs: Any, mask: Any, cache: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """One chunk [B, C, D] with mask [B, C], C being `spec.chunk`, to its memory [B, C, M] and the next cache."""
        chunk = self.spec.chunk
        past, frames_seen = chunk * self.spec.left_chunks, cache["frames_seen"]
        x = self.embedding(inputs, training=False)
        positions = frames_seen + ops.arange(chunk, dtype="int32")
        key_positions = frames_seen - past + ops.arange(past + chunk, dtype="int32")
        # Before the start there is nothing; behind the end only the chunk's own positions can lie.
        kept = ops.broadcast_to(ops.expand_dims(key_positions[:past] >= 0, 0), (ops.shape(inputs)[0], past))
        seen = ops.expand_dims(ops.concatenate([kept, mask], axis=1), 1)
        bias = attention_bias(seen, self.compute_dtype)
        blocks = []
        for block, own in zip(self.blocks, cache["blocks"], strict=True):
            x, new_cache = block.stream(x, mask, bias, positions, key_positions, own)
            blocks.append(new_cache)
        return x, {"blocks": blocks, "frames_seen": frames_seen + chunk}


class PyramidEncoder(_Recurrent):
    """Bidirectional recurrent layers, of which the upper ones read two neighbors as one (Chan et al. 2016, eq. 5).

    The summary is the top layer's last state in both directions.
    """

    def __init__(self, spec: PyramidEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        self.stride = 2**spec.joins
        self.memory_width = 2 * spec.units
        self.summary_width = 2 * spec.units * STATES[spec.cell]
        self.embedding = PositionedEmbedding(width, dropout=spec.dropout, name="positions")
        self.dropout = keras.layers.Dropout(spec.dropout)
        self.stack = _recurrent_stack(spec.cell, spec.layers, spec.units, True, initializer)

    def positions(self, source: Any) -> Any:
        for _ in range(self.spec.joins):
            source = (source + 1) // 2
        return source

    def joins(self, depth: int) -> bool:
        """Whether the layer at this depth reads pairs."""
        return depth >= self.spec.layers - self.spec.joins

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, None, self.width))
        width = self.width
        for depth, layer in enumerate(self.stack):
            layer.build((None, None, 2 * width if self.joins(depth) else width))
            width = self.memory_width

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.embedding(inputs, training=training)
        states: list[Any] = []
        for depth, layer in enumerate(self.stack):
            if depth:
                x = self.dropout(x, training=training)
            if self.joins(depth):
                x, mask = join_pairs(x, mask)
            x, *states = self.run_layer(layer, x, mask, training)
        return x, mask, ops.concatenate(states, axis=-1)


def _recurrent_stack(cell: str, layers: int, units: int, bidirectional: bool, initializer: str) -> list[Any]:
    """Recurrent layers that give their outputs and last states."""
    stack: list[Any] = []
    for depth in range(layers):
        layer = LAYERS[cell](
            units, kernel_initializer=initializer, return_sequences=True, return_state=True, name=f"layer_{depth}"
        )
        stack.append(keras.layers.Bidirectional(layer, name=f"both_{depth}") if bidirectional else layer)
    return stack


BUILDERS: dict[type, Any] = {
    ConformerEncoderSpec: ConformerEncoder,
    PyramidEncoderSpec: PyramidEncoder,
    TransformerEncoderSpec: TransformerEncoder,
    RecurrentEncoderSpec: RecurrentEncoder,
    ConvolutionEncoderSpec: ConvolutionEncoder,
}


def build_encoder(spec: EncoderSpec, width: int, initializer: str) -> Encoder:
    """The encoder a spec asks for, over embeddings of the given width."""
    return lookup(BUILDERS, spec)(spec, width, initializer, name="encoder")
