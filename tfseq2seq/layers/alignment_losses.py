"""Losses that sum over alignments: CTC and the RNN transducer.

Labels [B, T] are the same for all decoders: tokens, <eos> and padding. These losses do not count <eos> as a token.
Both losses are in nats per token of an utterance. The sample weight of an utterance is proportional to its number of
tokens, so a weighted sum is a mean over tokens, as in `TokenCrossEntropy`. All computation is in float32.

In CTC an utterance has no alignment if its transcript needs more positions than it has. The data pipeline skips and
reports such utterances. If speed augmentation makes an utterance too short, its loss is 0.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.ctc import real_positions
from tfseq2seq.spec import BLANK, EOS, PAD

_LOWEST = -1e9


def label_tokens(labels: Any) -> tuple[Any, Any]:
    """Replaces <eos> by padding in labels [B, T]. Returns tokens [B, T] int32 and numbers of tokens [B] int32."""
    labels = ops.cast(labels, "int32")
    tokens = ops.where(ops.equal(labels, EOS), PAD, labels)
    return tokens, ops.sum(ops.cast(ops.not_equal(tokens, PAD), "int32"), axis=1)


def positions_needed(tokens: Any) -> Any:
    """Returns the minimum number of positions that CTC needs for tokens [B, T], as [B] int32.

    CTC needs a blank between equal neighboring tokens.
    """
    counts = ops.sum(ops.cast(ops.not_equal(tokens, PAD), "int32"), axis=1)
    repeated = ops.logical_and(ops.equal(tokens[:, 1:], tokens[:, :-1]), ops.not_equal(tokens[:, 1:], PAD))
    return counts + ops.sum(ops.cast(repeated, "int32"), axis=1)


def _per_token(losses: Any, counts: Any) -> Any:
    return losses / ops.cast(ops.maximum(counts, 1), "float32")


@keras.saving.register_keras_serializable("tfseq2seq")
class CTCLoss(keras.losses.Loss):
    """Negative log-probability of the labels over all their alignments, per token (Graves et al. 2006)."""

    def __init__(self, name: str = "ctc", **kwargs: Any):
        super().__init__(**{"name": name, "reduction": "sum", **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss in nats per token, [B], of labels [B, T] and logits [B, F, V] of `CTCOutput`."""
        tokens, counts = label_tokens(y_true)
        positions = ops.sum(ops.cast(real_positions(y_pred), "int32"), axis=1)
        possible = positions >= positions_needed(tokens)
        # Without an alignment the gradient would be NaN, even after multiplication by 0. Such labels count as empty.
        losses = ops.ctc_loss(
            tokens, ops.cast(y_pred, "float32"), ops.where(possible, counts, 0), positions, mask_index=BLANK
        )
        return ops.where(possible, _per_token(losses, counts), 0.0)


@keras.saving.register_keras_serializable("tfseq2seq")
class TransducerLoss(keras.losses.Loss):
    """Negative log-probability of the labels over all their alignments, per token (Graves 2012).

    The lattice has a node for each pair (position, number of emitted tokens). A diagonal has nodes of equal sum. The
    forward variables of a diagonal depend only on the previous diagonal, so one step of a loop computes all of them.
    """

    def __init__(self, name: str = "transducer", **kwargs: Any):
        super().__init__(**{"name": name, "reduction": "sum", **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss in nats per token, [B], of labels [B, T] and logits [B, F, T, V] of `JointNetwork`.

        Logits [:, f, u] are for the next label at position f after u tokens.
        """
        tokens, counts = label_tokens(y_true)
        logits = ops.cast(y_pred, "float32")
        normalizer = ops.logsumexp(logits, axis=-1)
        blank = logits[..., BLANK] - normalizer
        chosen = ops.broadcast_to(ops.expand_dims(ops.expand_dims(tokens, 1), -1), (*ops.shape(blank), 1))
        label = ops.squeeze(ops.take_along_axis(logits, chosen, axis=-1), -1) - normalizer
        label = ops.where(ops.expand_dims(ops.not_equal(tokens, PAD), 1), label, _LOWEST)
        return _per_token(-_lattice_sum(blank, label, counts), counts)


def _lattice_sum(blank: Any, label: Any, counts: Any) -> Any:
    """Returns the log-probability [B] of all paths from node (0, 0) over the last blank at node (F - 1, counts).

    Args:
        blank: [B, F, U], log-probability of the edge from (f, u) to (f + 1, u).
        label: [B, F, U], log-probability of the edge from (f, u) to (f, u + 1).
        counts: [B], numbers of tokens, below U.
    """
    batch, positions, width = ops.shape(blank)
    first = ops.where(ops.equal(ops.arange(width), 0), 0.0, _LOWEST)
    first = ops.cast(ops.broadcast_to(ops.expand_dims(first, 0), (batch, width)), "float32")
    edge = ops.full((batch, 1), _LOWEST, dtype="float32")

    def advance(forward: Any, now: Any) -> tuple[Any, Any]:
        one_more_label = (forward + now[1])[:, :-1]
        forward = ops.logaddexp(forward + now[0], ops.concatenate([edge, one_more_label], axis=1))
        return forward, forward

    # The last diagonal has only the end of the longest utterance. Its only edge is a blank, which is added below.
    _, later = ops.scan(advance, first, ops.stack([_diagonals(blank)[:-1], _diagonals(label)[:-1]], axis=1))
    forward = ops.concatenate([ops.expand_dims(first, 0), later], axis=0)
    rows = ops.arange(batch, dtype="int32")
    indices = ((positions - 1 + counts) * batch + rows) * width + counts
    last = ops.take(ops.reshape(forward, (-1,)), indices)
    final = ops.take(ops.reshape(blank, (-1,)), (rows * positions + positions - 1) * width + counts)
    return last + final


def _diagonals(lattice: Any) -> Any:
    """Returns the diagonals [F + U - 1, B, U] of [B, F, U]: entry [d, b, u] is [b, d - u, u] or, outside, -1e9."""
    batch, positions, width = ops.shape(lattice)
    rows = ops.pad(ops.swapaxes(lattice, 1, 2), ((0, 0), (0, 0), (0, width)), constant_values=_LOWEST)
    # Reshaping to one column less shifts each row by one column relative to the row above.
    flat = ops.reshape(rows, (batch, width * (positions + width)))[:, : width * (positions + width - 1)]
    return ops.transpose(ops.reshape(flat, (batch, width, positions + width - 1)), (2, 0, 1))
