"""Copying from the source: the pointer-generator (See et al. 2017).

    P(w) = p_gen * P_vocab(w) + (1 - p_gen) * sum of the attention to the source positions whose word is w

`copy_ids` [B, S] tell which target word each source position is. A source word that the target vocabulary lacks has an
extended id: V + the position of its first occurrence in this source. Ids from V on therefore mean other words in each
example, and a batch has V + S of them. Ids of subwords are never extended, because subwords spell every word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.spec import UNK, ModelSpec

# The log-probability of ids that no word of the source has. It is finite, so that sums of it never become NaN.
IMPOSSIBLE = -1e9
# Probabilities below it count as this one. Their logarithm would be infinite.
_LEAST = 1e-30


class CopyMixture(keras.layers.Layer):
    """Mixes the words that a decoder generates with the words that it copies.

    p_gen is a sigmoid of the decoder's hidden vector, from which the logits are computed too. It depends on the state,
    the context and the last token, as the equation of See et al. does.

    Args:
        width: D, the width of the hidden vectors.
        size: V, the size of the target vocabulary.
        extended: whether source words that the vocabulary lacks have ids from V on.
        initializer: the initializer of the weights of p_gen.
    """

    def __init__(self, width: int, size: int, extended: bool, initializer: str = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.size, self.extended, self.initializer = width, size, extended, initializer
        self.gate = SequenceDense(1, kernel_initializer=initializer, name="gate", dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.gate.build((None, None, self.width))

    def call(self, logits: Any, hidden: Any, attention: Any, copy_ids: Any) -> Any:
        """Returns the log-probabilities of the mixture, float32.

        Args:
            logits: [B, T, V].
            hidden: [B, T, D].
            attention: [B, T, S], weights that sum to one.
            copy_ids: [B, S] int32, from 0 to V + S - 1, or to V - 1 if ids are not extended.

        Returns:
            [B, T, V + S], or [B, T, V] if ids are not extended. Ids that no word of the source has are `IMPOSSIBLE`.
        """
        gate = ops.cast(self.gate(hidden), "float32")
        attention = ops.cast(attention, "float32")
        # Weights of 16 bits sum to one only roughly.
        attention = attention / ops.sum(attention, axis=-1, keepdims=True)
        probs = ops.sigmoid(gate) * ops.softmax(ops.cast(logits, "float32"), axis=-1)
        positions = ops.shape(copy_ids)[1]
        if self.extended:
            probs = ops.pad(probs, ((0, 0), (0, 0), (0, positions)))
        probs = probs + self._copied(ops.sigmoid(-gate) * attention, copy_ids, positions)
        log_probs = ops.log(ops.maximum(probs, _LEAST))
        return log_probs + self._impossible(copy_ids, positions) if self.extended else log_probs

    def _copied(self, weights: Any, copy_ids: Any, positions: Any) -> Any:
        """Returns the sums of weights [B, T, S] for each word: [B, T, V + S] or [B, T, V]."""
        batch, steps = ops.shape(copy_ids)[0], ops.shape(weights)[1]
        size = self.size + positions if self.extended else self.size
        rows = ops.reshape(ops.arange(batch * steps, dtype="int32"), (batch, steps, 1))
        shape = (batch, steps, positions)
        ids = ops.broadcast_to(ops.expand_dims(ops.cast(copy_ids, "int32"), 1), shape)
        indices = ops.stack([ops.broadcast_to(rows, shape), ops.minimum(ids, size - 1)], axis=-1)
        sums = ops.scatter(ops.reshape(indices, (-1, 2)), ops.reshape(weights, (-1,)), (batch * steps, size))
        return ops.reshape(sums, (-1, steps, size))

    def _impossible(self, copy_ids: Any, positions: Any) -> Any:
        """Returns [B, 1, V + S] to add: IMPOSSIBLE for the ids of positions that are not the first of a new word."""
        own = self.size + ops.arange(positions, dtype="int32")
        penalty = ops.where(ops.equal(copy_ids, own), 0.0, IMPOSSIBLE)
        return ops.expand_dims(ops.pad(penalty, ((0, 0), (self.size, 0))), 1)

    def embedder(self, embedding: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns an embedding that also takes extended ids. They have the vector of <unk>."""
        return lambda ids: embedding(ops.where(ids < self.size, ids, UNK))

    def get_config(self) -> dict[str, Any]:
        own = {"width": self.width, "size": self.size, "extended": self.extended, "initializer": self.initializer}
        return {**super().get_config(), **own}


def build_copying(spec: ModelSpec, source: Any, size: int) -> CopyMixture | None:
    """Returns the layer for copying in a model, or None if its decoder does not copy.

    Args:
        spec: the settings of the model.
        source: the settings of the source.
        size: V, the size of the target vocabulary.
    """
    if not spec.decoder.copies:
        return None
    return CopyMixture(spec.width, size, source.extends_copies, spec.initializer, name="copying")
