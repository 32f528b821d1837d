"""Decoders. They map the memory and the embeddings of previous tokens to hidden vectors for the output layer.

Each decoder has three functions, which use the same weights:

    call(embedded [B, T, D], memory, ...)          teacher forcing, for all target positions at once
    start(memory, ..., beam, length)               the tensors `fixed` and an empty `cache` for a search
    step(embedded [B, K, D], index, visible, ...)  one position of K hypotheses per example

- `fixed` has tensors that are the same in all steps. They have one entry per example, and none per hypothesis.
- `cache["state"]` has the states of the hypotheses, [B, K, ...] each. Search reorders them with the hypotheses.
- `cache["history"]` has an entry for each position and slot, [..., length * K, width] each. It is a growing cache.
  Search never moves its entries, and enlarges it if the hypotheses become longer than `length`.
- `visible` [B, K, length * K] is True at the entries of a hypothesis's own past. The entry of a position and a slot has
  the index position * K + slot. Search updates this small mask instead of copying keys and values.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.layers.masks import attention_bias, causal_mask
from tfseq2seq.layers.positions import PositionedEmbedding
from tfseq2seq.layers.recurrent import CellStack, over_time, time_major
from tfseq2seq.layers.recurrent_attention import RecurrentAttention
from tfseq2seq.layers.transformer import (
    TransformerBlock,
    bucketed_positions,
    cache_rows,
    layer_norm,
    positioned_embedding,
    with_positions,
)
from tfseq2seq.models.memory import Memory
from tfseq2seq.spec import DecoderSpec, RecurrentDecoderSpec, TransformerDecoderSpec, lookup


class TransformerDecoder(keras.layers.Layer):
    """Stack of Transformer blocks. The attention weights are those of the last block, averaged over heads, or those of
    `alignment_heads`.

    In a decoder that copies they are those of its first head, which learns to point (Gehrmann et al. 2018). The mean
    would be clear only if all heads pointed at the same word.

    A memory width of 0 means no memory, as in a language model. The attention weights then have no columns.
    """

    # Teacher forcing computes all positions at once, and a step reads the cache entries of all earlier positions.
    parallel = True

    def __init__(
        self,
        spec: TransformerDecoderSpec,
        width: int,
        memory_width: int,
        summary_width: int,
        initializer: str,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec, self.width = spec, width
        self.embedding = positioned_embedding(spec, width)
        self.position_bias = bucketed_positions(spec, causal=True)
        self.blocks = [
            TransformerBlock(spec, width, memory_width, initializer, name=f"block_{i}") for i in range(spec.layers)
        ]
        self.norm = layer_norm(spec, "norm") if spec.norm == "pre" else None

    def build(self, input_shape: Any) -> None:
        for layer in (self.embedding, self.position_bias, *self.blocks, self.norm):
            if layer is not None:
                layer.build((None, None, self.width))

    def call(
        self,
        embedded: Any,
        memory: Memory,
        target_mask: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Returns hidden vectors [B, T, D] and attention weights [B, T, S] for token embeddings [B, T, D]."""
        fixed = self._fixed(memory)
        batch, length = ops.shape(embedded)[:2]
        positions = ops.arange(length, dtype="int32")
        # A bias for each row, though all are equal: with one for all, oneDNN's fused product takes 200 times as long.
        mask = ops.broadcast_to(causal_mask(length), (batch, length, length))
        bias = with_positions(attention_bias(mask, self.compute_dtype), self.position_bias, positions, positions)
        x = self.embedding(embedded, training=training)
        weights = []
        for block, keys_values in zip(self.blocks, fixed["memory"], strict=True):
            x, own, _ = block(x, bias, positions, keys_values, fixed["bias"], training=training)
            weights.append(own)
        return self._finish(x, weights, fixed["bias"])

    def start(self, memory: Memory, beam: int, length: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the keys and values of the memory, and an empty cache for `length` positions of `beam` hypotheses."""
        attention = self.blocks[0].self_attention
        shape = (ops.shape(memory.values)[0], attention.groups, beam * length, attention.head_width)
        history = [tuple(ops.zeros(shape, dtype=self.compute_dtype) for _ in range(2)) for _ in self.blocks]
        return self._fixed(memory), {"state": {}, "history": history}

    def step(
        self, embedded: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Computes one step for token embeddings [B, K, D] at position `index`.

        Returns:
            Hidden vectors [B, K, D], the next cache, and attention weights [B, K, S].
        """
        beam = ops.shape(embedded)[1]
        positions = ops.broadcast_to(ops.reshape(index, (1,)), (beam,))
        key_positions = ops.arange(ops.shape(visible)[2], dtype="int32") // beam
        bias = attention_bias(visible, self.compute_dtype)
        bias = with_positions(bias, self.position_bias, positions, key_positions)
        x = self.embedding(embedded, start=index, training=False)
        rows = cache_rows(ops.shape(cache["history"][0][0]), index * beam, beam)
        weights, history = [], []
        for block, keys_values, old in zip(self.blocks, fixed["memory"], cache["history"], strict=True):
            x, own, new = block(
                x, bias, positions, keys_values, fixed["bias"], old, rows, key_positions, training=False
            )
            weights.append(own)
            history.append(new)
        hidden, attention = self._finish(x, weights, fixed["bias"])
        return hidden, {"state": {}, "history": history}, attention

    def _fixed(self, memory: Memory) -> dict[str, Any]:
        """Returns the keys and values of the memory for each block, and the bias of the memory, [B, 1, S]."""
        bias = ops.expand_dims(attention_bias(memory.mask, self.compute_dtype), 1)
        # Without a memory a block has (), not None, because exports flatten this structure into a list of tensors.
        keys_values = [
            () if block.cross_attention is None else block.cross_attention.keys_values(memory.values)
            for block in self.blocks
        ]
        return {"memory": keys_values, "bias": bias}

    def _finish(self, x: Any, weights: list[Any], bias: Any) -> tuple[Any, Any]:
        hidden = x if self.norm is None else self.norm(x)
        last = weights[-1]
        if last is None:
            return hidden, ops.repeat(bias, ops.shape(x)[1], axis=1)
        if self.spec.aligned:
            return hidden, ops.mean(ops.stack([weights[block][:, head] for block, head in self.spec.aligned]), axis=0)
        return hidden, last[:, 0] if self.spec.copies else ops.mean(last, axis=1)


class RecurrentDecoder(keras.layers.Layer):
    """Stack of recurrent cells with attention (Luong et al. 2015), or with a fixed context vector.

    In each step the cells read the embedding of a token and, with input feeding, the last attentional vector. The state
    of the top cell attends to the memory, which gives a context. The output is the attentional vector
    `tanh(W [state; context])`.

    Without attention the context is the summary of the encoder, which the cells read in each step (Cho et al. 2014). A
    memory width of 0 means no context, as in a language model.
    """

    # Teacher forcing is a loop over time, and the states contain the whole past.
    parallel = False
    # It has no layers whose activations can be computed again.
    blocks: Any = ()

    def __init__(
        self,
        spec: RecurrentDecoderSpec,
        width: int,
        memory_width: int,
        summary_width: int,
        initializer: str,
        stepwise: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.spec, self.width, self.summary_width = spec, width, summary_width
        # Without attention there is a fixed context vector, or no context.
        self.fixed_context = spec.attention == "none"
        self.has_context = memory_width > 0
        # If a step needs the output of the previous step, the loop over time includes attention. Otherwise attention is
        # computed after the loop, for all steps at once.
        fed = not self.fixed_context and spec.input_feeding
        self.stepwise = stepwise or fed or spec.coverage or spec.attention == "location"
        self.embedding = PositionedEmbedding(width, dropout=spec.dropout, name="positions")
        self.cells = CellStack(spec.cell, spec.layers, spec.units, width, initializer, name="cells")
        # Projects the second input of the first cell: the last attentional vector or the fixed context.
        self.feed: Any = None
        if fed or (self.fixed_context and self.has_context):
            self.feed = SequenceDense(
                self.cells.gates_width, use_bias=False, kernel_initializer=initializer, name="feed"
            )
        self.context_width = summary_width if self.fixed_context else memory_width
        self.attention_layer: Any = None
        if not self.fixed_context:
            self.attention_layer = RecurrentAttention(spec, memory_width, initializer, name="alignment")
        # tanh(W [state; context]) is tanh(W1 state + W2 context). The product with a fixed context is computed once.
        self.combine = SequenceDense(width, kernel_initializer=initializer, name="combine")
        self.combine_context: Any = None
        if self.has_context:
            self.combine_context = SequenceDense(
                width, use_bias=False, kernel_initializer=initializer, name="combine_context"
            )
        self.bridges = [
            SequenceDense(spec.units, activation="tanh", kernel_initializer=initializer, name=f"bridge_{i}")
            for i in range(spec.layers * self.cells.states_each * (spec.bridge == "tanh" and self.has_context))
        ]
        self.dropout = keras.layers.Dropout(spec.dropout)

    def build(self, input_shape: Any) -> None:
        self.embedding.build((None, None, self.width))
        self.cells.build(None)
        if self.attention_layer is not None:
            self.attention_layer.build(None)
        if self.feed is not None:
            self.feed.build((None, None, self.summary_width if self.fixed_context else self.width))
        self.combine.build((None, None, self.spec.units))
        if self.combine_context is not None:
            self.combine_context.build((None, None, self.context_width))
        for bridge in self.bridges:
            bridge.build((None, self.summary_width))

    def call(self, embedded: Any, memory: Memory, target_mask: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Returns hidden vectors [B, T, D] and attention weights [B, T, S] for token embeddings [B, T, D].

        With a fixed context the attention weights are uniform.
        """
        fixed, cache = self.start(memory, 1, 1)
        inputs = {
            "projected": time_major(self.project_input(embedded, fixed, training)),
            **self.dropout_masks(embedded, training),
        }
        if self.stepwise:
            _, carries = over_time(lambda carry, now: self.advance(carry, now, fixed), cache["state"], inputs)
            return self.collect(carries, target_mask, training)

        def advance(states: Any, now: Any) -> Any:
            return self._move(ops.expand_dims(now["projected"], 1), states, now.get("dropout_masks"))

        _, states = over_time(advance, cache["state"]["cells"], inputs)
        top = time_major(ops.squeeze(states[-self.cells.states_each], 2))
        hidden, attention, _ = self._attend(top, fixed, {})
        return self.dropout(hidden, training=training), attention

    def start(self, memory: Memory, beam: int, length: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the tensors that attention needs of the memory, and a cache with the initial states."""
        batch, source = ops.shape(memory.values)[0], ops.shape(memory.values)[1]
        if self.bridges:
            cells = [bridge(memory.summary) for bridge in self.bridges]
        else:
            count = self.spec.layers * self.cells.states_each
            cells = [ops.zeros((batch, self.spec.units), dtype=self.compute_dtype) for _ in range(count)]
        state: dict[str, Any] = {"cells": [ops.repeat(ops.expand_dims(cell, 1), beam, axis=1) for cell in cells]}
        if self.stepwise:
            state["hidden"] = ops.zeros((batch, beam, self.width), dtype=self.compute_dtype)
            state["weights"] = ops.zeros((batch, beam, source), dtype=self.compute_dtype)
            if self.spec.coverage:
                state["coverage"] = state["weights"]
        if not self.fixed_context:
            return self.attention_layer.prepare(memory.values, memory.mask), {"state": state, "history": {}}
        fixed = {"bias": ops.expand_dims(attention_bias(memory.mask, self.compute_dtype), 1)}
        if self.has_context:
            context = ops.expand_dims(memory.summary, 1)
            fixed |= {"projected": self.feed(context), "combined": self.combine_context(context)}
        return fixed, {"state": state, "history": {}}

    def step(
        self, embedded: Any, index: Any, visible: Any, fixed: dict[str, Any], cache: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Any]:
        """Computes one step for token embeddings [B, K, D].

        `index` and `visible` are not used, because the states contain the whole past.

        Returns:
            Hidden vectors [B, K, D], the next cache, and attention weights [B, K, S].
        """
        projected, state = self.project_input(embedded, fixed, training=False), cache["state"]
        if self.stepwise:
            state = self.advance(state, {"projected": projected}, fixed)
            return state["hidden"], {"state": state, "history": {}}, state["weights"]
        cells = self._move(projected, state["cells"], None)
        hidden, attention, _ = self._attend(cells[-self.cells.states_each], fixed, {})
        return hidden, {"state": {"cells": cells}, "history": {}}, attention

    def project_input(self, embedded: Any, fixed: dict[str, Any], training: bool | None) -> Any:
        """Projects token embeddings [B, T, D], and a fixed context, to the gates of the first cell, [B, T, G]."""
        projected = self.cells.project_input(self.embedding(embedded, training=training))
        return projected + fixed["projected"] if "projected" in fixed else projected

    def dropout_masks(self, embedded: Any, training: bool | None) -> dict[str, Any]:
        """Returns the dropout masks between layers for all steps, [T, B, (layers - 1) * U]; empty without dropout."""
        if self.spec.layers == 1 or not self.spec.dropout or training is False:
            return {}
        shape = (ops.shape(embedded)[1], ops.shape(embedded)[0], (self.spec.layers - 1) * self.spec.units)
        return {"dropout_masks": self.dropout(ops.ones(shape, dtype=self.compute_dtype), training=training)}

    def advance(self, carry: dict[str, Any], now: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Computes cells, attention and attentional vector of a step, for stepwise decoders.

        `now["projected"]` is [B, G] in the loop over time, and [B, K, G] in a step of a search.
        """
        projected = now["projected"] if len(now["projected"].shape) == 3 else ops.expand_dims(now["projected"], 1)
        if self.spec.input_feeding and not self.fixed_context:
            projected = projected + self.feed(carry["hidden"])
        cells = self._move(projected, carry["cells"], now.get("dropout_masks"))
        hidden, weights, coverage = self._attend(cells[-self.cells.states_each], fixed, carry)
        new_states = {"cells": cells, "hidden": hidden, "weights": weights}
        return new_states if coverage is None else {**new_states, "coverage": coverage}

    def collect(self, carries: dict[str, Any], target_mask: Any, training: bool | None) -> tuple[Any, Any]:
        """Returns hidden vectors and attention weights of the carries [T, B, 1, ...], and adds the coverage loss."""
        hidden = time_major(ops.squeeze(carries["hidden"], 2))
        weights = time_major(ops.squeeze(carries["weights"], 2))
        if self.spec.coverage and self.spec.coverage_loss:
            before = time_major(ops.squeeze(carries["coverage"], 2)) - weights
            overlap = ops.sum(ops.cast(ops.minimum(weights, before), "float32"), axis=-1)
            real = ops.cast(target_mask, "float32")
            # `Trainable.compute_loss` makes it a mean over real tokens.
            self.add_loss(self.spec.coverage_loss * ops.sum(overlap * real))
        return self.dropout(hidden, training=training), weights

    def _move(self, projected: Any, states: Any, dropout_masks: Any) -> list[Any]:
        """Computes the next states [B, K, U] of the cells. Each hypothesis is a row of their batch."""
        beam = ops.shape(projected)[1]
        rows = [ops.reshape(state, (-1, self.spec.units)) for state in states]
        _, new_states = self.cells(ops.reshape(projected, (-1, self.cells.gates_width)), rows, dropout_masks)
        return [ops.reshape(state, (-1, beam, self.spec.units)) for state in new_states]

    def _attend(self, top: Any, fixed: dict[str, Any], carry: dict[str, Any]) -> tuple[Any, Any, Any]:
        coverage = carry.get("coverage")
        if self.attention_layer is None:
            combined = fixed.get("combined", 0.0)
            weights = ops.repeat(ops.softmax(fixed["bias"], axis=-1), ops.shape(top)[1], axis=1)
        else:
            context, weights = self.attention_layer(top, fixed, carry.get("weights"), coverage)
            combined = self.combine_context(context)
        hidden = ops.tanh(self.combine(top) + combined)
        return hidden, weights, None if coverage is None else coverage + weights


BUILDERS: dict[type, Any] = {TransformerDecoderSpec: TransformerDecoder, RecurrentDecoderSpec: RecurrentDecoder}


def build_decoder(
    spec: DecoderSpec, width: int, memory_width: int, summary_width: int, initializer: str, stepwise: bool = False
) -> keras.layers.Layer:
    """Returns the decoder of a spec.

    Args:
        spec: the settings of the decoder.
        width: D, the width of the token embeddings.
        memory_width: the width of the memory, or 0 if there is none.
        summary_width: the width of the encoder summary.
        initializer: the initializer of the weight matrices.
        stepwise: whether the loop of a recurrent decoder has the output of the previous step, for scheduled sampling.
    """
    build = lookup(BUILDERS, spec)
    extra = {} if build.parallel else {"stepwise": stepwise}
    return build(spec, width, memory_width, summary_width, initializer, name="decoder", **extra)
