"""Encoders. They map the embedded source to the memory.

The inputs of an encoder are token embeddings or subsampled audio frames [B, S, D], and their mask [B, S]. It returns

    memory   [B, S', M]  vectors for the cross-attention of decoders
    mask     [B, S']     True on real positions of the memory
    summary  [B, Q]      one vector for the whole source, for the initial state of recurrent decoders

`memory_width` is M, `summary_width` is Q, and `positions(S)` is S'.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.errors import UserError
from tfseq2seq.layers.conformer import ConformerBlock
from tfseq2seq.layers.convolution import GatedConvolution, join_pairs, masked_pool
from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.masks import attention_bias, chunk_mask, masked_mean
from tfseq2seq.layers.positions import PositionedEmbedding
from tfseq2seq.layers.recurrent import LAYERS, STATES
from tfseq2seq.layers.transformer import (
    TransformerBlock,
    bucketed_positions,
    layer_norm,
    positioned_embedding,
    with_positions,
)
from tfseq2seq.models.pretrained import load_backbone, set_trainable
from tfseq2seq.spec import (
    ConformerEncoderSpec,
    ConvolutionEncoderSpec,
    EncoderSpec,
    KerasHubEncoderSpec,
    PyramidEncoderSpec,
    RecurrentEncoderSpec,
    TransformerEncoderSpec,
    lookup,
)


class Encoder(keras.layers.Layer):
    """Base class of all encoders."""

    memory_width: int
    summary_width: int
    # The number of input positions per position of the memory.
    stride: int = 1
    # Whether the encoder has recurrent layers, which it calls through `run_layer`.
    recurrent = False
    # The layers whose activations can be computed again in the backward pass.
    blocks: Any = ()

    def positions(self, source: Any) -> Any:
        """Returns S' for S, which can be a number or a tensor."""
        return source


class NoEncoder(Encoder):
    """The encoder of a model without a source. Its memory has no positions."""

    memory_width = summary_width = 0

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        batch = ops.shape(inputs)[0]
        empty = ops.zeros((batch, 0), dtype=self.compute_dtype)
        return ops.zeros((batch, 0, 0), dtype=self.compute_dtype), ops.zeros((batch, 0), dtype="bool"), empty

    def positions(self, source: Any) -> Any:
        return 0


class TransformerEncoder(Encoder):
    """Stack of Transformer blocks. The summary is the mean over real positions."""

    def __init__(self, spec: TransformerEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = self.memory_width = self.summary_width = width
        self.embedding = positioned_embedding(spec, width)
        self.position_bias = bucketed_positions(spec, causal=False)
        windows = spec.attention_window, spec.global_positions
        self.blocks = [
            TransformerBlock(spec, width, 0, initializer, *windows, name=f"block_{i}") for i in range(spec.layers)
        ]
        self.norm = layer_norm(spec, "norm") if spec.norm == "pre" else None

    def build(self, input_shape: Any) -> None:
        for layer in (self.embedding, self.position_bias, *self.blocks, self.norm):
            if layer is not None:
                layer.build((None, None, self.width))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        x = self.embedding(inputs, training=training)
        positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        bias = ops.expand_dims(attention_bias(mask, self.compute_dtype), 1)
        bias = with_positions(bias, self.position_bias, positions, positions)
        for block in self.blocks:
            x, _, _ = block(x, bias, positions, training=training)
        if self.norm is not None:
            x = self.norm(x)
        return x, mask, masked_mean(x, mask)


class _Recurrent(Encoder):
    """Base class of encoders with recurrent layers.

    `run_layer` runs a layer over time and returns its outputs and last states. The TFLite export replaces it by another
    function with the same result, because TFLite does not support the lists in which Keras collects outputs.
    """

    recurrent = True

    @staticmethod
    def run_layer(layer: Any, inputs: Any, mask: Any, training: bool | None) -> Any:
        return layer(inputs, mask=mask, training=training)


class RecurrentEncoder(_Recurrent):
    """Stack of recurrent layers. The summary is the last state of the top layer, in each direction."""

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
    """Residual gated convolutions and average pooling of their outputs. The summary is the mean over positions."""

    def __init__(self, spec: ConvolutionEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.pooling = width, spec.pooling
        self.stride = spec.stride
        self.memory_width = self.summary_width = spec.filters
        self.embedding = PositionedEmbedding(width, "learned", spec.max_positions, spec.dropout, name="positions")
        self.project = SequenceDense(spec.filters, kernel_initializer=initializer, name="project")
        self.convolutions = [
            GatedConvolution(spec.filters, spec.kernel, spec.dropout, initializer, name=f"convolution_{i}")
            for i in range(spec.layers)
        ]

    @property
    def blocks(self) -> Any:
        return self.convolutions

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
    """Stack of Conformer blocks. The summary is the mean over real positions.

    With `spec.chunk` the output of a chunk depends only on this chunk and earlier ones.
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
        attention_mask = ops.expand_dims(mask, 1)
        if self.spec.chunk:
            in_chunks = chunk_mask(length, self.spec.chunk, self.spec.left_chunks)
            attention_mask = ops.logical_and(attention_mask, in_chunks)
        bias = attention_bias(attention_mask, self.compute_dtype)
        positions = ops.arange(length, dtype="int32")
        for block in self.blocks:
            x = block(x, mask, bias, positions, training=training)
        return x, mask, masked_mean(x, mask)

    def start_stream(self, batch: Any) -> dict[str, Any]:
        """Returns the cache before the first chunk of a stream. The encoder must have `spec.chunk`."""
        past = self.spec.chunk * self.spec.left_chunks
        blocks = [block.start_stream(batch, past) for block in self.blocks]
        return {"blocks": blocks, "frames_seen": ops.zeros((), dtype="int32")}

    def stream(self, inputs: Any, mask: Any, cache: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Encodes one chunk of a stream.

        Args:
            inputs: [B, C, D], where C is `spec.chunk`.
            mask: [B, C].
            cache: the cache from `start_stream` or from the previous chunk.

        Returns:
            The memory [B, C, M] of the chunk, and the cache for the next chunk.
        """
        chunk = self.spec.chunk
        past, frames_seen = chunk * self.spec.left_chunks, cache["frames_seen"]
        x = self.embedding(inputs, training=False)
        positions = frames_seen + ops.arange(chunk, dtype="int32")
        key_positions = frames_seen - past + ops.arange(past + chunk, dtype="int32")
        # Cached positions before the start of the stream are masked. Padding after its end can only be in this chunk.
        cached = ops.broadcast_to(ops.expand_dims(key_positions[:past] >= 0, 0), (ops.shape(inputs)[0], past))
        attention_mask = ops.expand_dims(ops.concatenate([cached, mask], axis=1), 1)
        bias = attention_bias(attention_mask, self.compute_dtype)
        blocks = []
        for block, own in zip(self.blocks, cache["blocks"], strict=True):
            x, new_cache = block.stream(x, mask, bias, positions, key_positions, own)
            blocks.append(new_cache)
        return x, {"blocks": blocks, "frames_seen": frames_seen + chunk}


class PyramidEncoder(_Recurrent):
    """Bidirectional recurrent layers. The upper ones join two neighboring positions into one (Chan et al. 2016, eq. 5).

    The summary is the last state of the top layer, in both directions.
    """

    def __init__(self, spec: PyramidEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        self.stride = spec.stride
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
        """Returns whether the layer at this depth joins pairs of positions."""
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
    """Returns recurrent layers that return their outputs and last states."""
    stack: list[Any] = []
    for depth in range(layers):
        layer = LAYERS[cell](
            units, kernel_initializer=initializer, return_sequences=True, return_state=True, name=f"layer_{depth}"
        )
        stack.append(keras.layers.Bidirectional(layer, name=f"both_{depth}") if bidirectional else layer)
    return stack


class PretrainedEncoder(Encoder):
    """A pretrained BERT of keras-hub, and a projection of its outputs. The summary is the mean over real positions.

    The inputs are the BERT's token ids [B, S + 1], of which the first is its [CLS], and their mask. The memory has no
    position for that one, so that its positions are those of the source. Of a frozen BERT the dropout is off in
    training too.
    """

    def __init__(self, spec: KerasHubEncoderSpec, width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.memory_width = self.summary_width = width
        self.frozen, self.mixed = spec.trainable == "false", spec.layers == "all"
        backbone = load_backbone(spec.preset, "model.encoder.preset")
        _check_is_bert(backbone, spec)
        set_trainable(backbone, spec.trainable, spec.rank, "model.encoder.trainable")
        outputs = [backbone.get_layer(f"transformer_layer_{depth}").output for depth in range(backbone.num_layers)]
        if self.mixed:
            outputs.insert(0, backbone.get_layer("embeddings_dropout").output)
        self.hidden = backbone.hidden_dim
        self.backbone = keras.Model(backbone.inputs, outputs if self.mixed else outputs[-1:], name="backbone")
        self.project = SequenceDense(width, kernel_initializer=initializer, name="project")

    def build(self, input_shape: Any) -> None:
        self.project.build((None, None, self.hidden))
        if self.mixed:
            count = len(self.backbone.outputs)
            self.mixture = self.add_weight(shape=(count,), initializer="zeros", name="mixture")
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> tuple[Any, Any, Any]:
        known = {
            "token_ids": inputs,
            "segment_ids": ops.zeros_like(inputs),
            "padding_mask": ops.cast(mask, "int32"),
        }
        feeds = [known[each.name] for each in self.backbone.inputs]
        found = self.backbone(feeds, training=False if self.frozen else training)
        found = found if isinstance(found, list | tuple) else [found]
        x = ops.cast(found[-1], self.compute_dtype)
        if self.mixed:
            shares = ops.softmax(ops.cast(self.mixture, self.compute_dtype))
            layers = ops.stack([ops.cast(each, self.compute_dtype) for each in found], axis=-1)
            x = ops.cast(self.scale, self.compute_dtype) * ops.matmul(layers, ops.expand_dims(shares, -1))[..., 0]
        x, mask = self.project(x[:, 1:]), mask[:, 1:]
        return x, mask, masked_mean(x, mask)


def _check_is_bert(backbone: Any, spec: KerasHubEncoderSpec) -> None:
    """Raises `UserError` for a backbone of another kind, or one with fewer positions than the spec has."""
    key = "model.encoder"
    named = {each.name for each in backbone.inputs}
    if named != {"token_ids", "segment_ids", "padding_mask"} or not hasattr(backbone, "num_layers"):
        raise UserError(f"{key}.preset: must be a BERT, got {type(backbone).__name__}, whose tokens are others")
    if spec.max_positions > backbone.max_sequence_length:
        raise UserError(
            f"{key}.max_positions: must be at most the {backbone.max_sequence_length} of the preset, got "
            f"{spec.max_positions}"
        )


BUILDERS: dict[type, Any] = {
    ConformerEncoderSpec: ConformerEncoder,
    PyramidEncoderSpec: PyramidEncoder,
    TransformerEncoderSpec: TransformerEncoder,
    RecurrentEncoderSpec: RecurrentEncoder,
    ConvolutionEncoderSpec: ConvolutionEncoder,
    KerasHubEncoderSpec: PretrainedEncoder,
}


def build_encoder(spec: EncoderSpec, width: int, initializer: str) -> Encoder:
    """Returns the encoder of a spec, for embeddings of the given width."""
    return lookup(BUILDERS, spec)(spec, width, initializer, name="encoder")
