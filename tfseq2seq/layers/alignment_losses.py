"""Losses that sum over alignments: CTC and the RNN transducer.

Labels [B, T] are as the data pipeline gives them for every decoder: tokens, <eos>, padding; <eos> is no token here.
Both losses are nats per token of each utterance and are weighted by its tokens, so that the mean over a batch is over
tokens, as with `TokenCrossEntropy`. All is computed in float32.

An utterance whose positions are too few for its transcript has no alignment. The data pipeline leaves such out and
names them; one that faster speed in augmentation has made so counts as zero.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.ctc import real_positions
from tfseq2seq.spec import BLANK, EOS, PAD

_LOWEST = -1e9


def label_tokens(labels: Any) -> tuple[Any, Any]:
    """Labels [B, T] with <eos> made padding, and how many tokens each has, [B] int32."""
    labels = ops.cast(labels, "int32")
    tokens = ops.where(ops.equal(labels, EOS), PAD, labels)
    return tokens, ops.sum(ops.cast(ops.not_equal(tokens, PAD), "int32"), axis=1)


def positions_needed(tokens: Any) -> Any:
    """[B] int32: the fewest positions that can say tokens [B, T] in CTC, a blank between equal neighbors included."""
    counts = ops.sum(ops.cast(ops.not_equal(tokens, PAD), "int32"), axis=1)
    repeated = ops.logical_and(ops.equal(tokens[:, 1:], tokens[:, :-1]), ops.not_equal(tokens[:, 1:], PAD))
    return counts + ops.sum(ops.cast(repeated, "int32"), axis=1)


def _per_token(losses: Any, counts: Any) -> Any:
    return losses / ops.cast(ops.maximum(counts, 1), "float32")


@keras.saving.register_keras_serializable("tfseq2seq")
class CTCLoss(keras.losses.Loss):
    """Negative log-probability of the labels over all their alignments, per token (Graves et al. 2006)."""

    def __init__(self, name: str = "ctc", **kwargs: Any):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Labels [B, T] and logits [B, F, V] of `CTCOutput` to nats per token, [B]."""
        tokens, counts = label_tokens(y_true)
        positions = ops.sum(ops.cast(real_positions(y_pred), "int32"), axis=1)
        possible = positions >= positions_needed(tokens)
        # Without an alignment the gradient would be NaN, whatever the loss is multiplied by afterwards.
        losses = ops.ctc_loss(
            tokens, ops.cast(y_pred, "float32"), ops.where(possible, counts, 0), positions, mask_index=BLANK
        )
        return ops.where(possible, _per_token(losses, counts), 0.0)


@keras.saving.register_keras_serializable("tfseq2seq")
class TransducerLoss(keras.losses.Loss):
    """Negative log-probability of the labels over all their alignments, per token (Graves 2012).

    The forward variables of one diagonal of the lattice, positions plus tokens said, follow from those of the one
    before, all at once.
    """

    def __init__(self, name: str = "transducer", **kwargs: Any):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Labels [B, T] and logits [B, F, T, V] of `JointNetwork` to nats per token, [B].

        Logits at [:, f, u] are of what follows u tokens at position f.
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
    """Log-probability summed over the paths from (0, 0) to the blank at (F - 1, counts).

    Args:
        blank: [B, F, U], log-probability of going from (f, u) to (f + 1, u).
        label: [B, F, U], of going from (f, u) to (f, u + 1).
        counts: [B], tokens to say, below U.

    Returns:
        [B].
    """
    batch, positions, width = ops.shape(blank)
    first = ops.where(ops.equal(ops.arange(width), 0), 0.0, _LOWEST)
    first = ops.cast(ops.broadcast_to(ops.expand_dims(first, 0), (batch, width)), "float32")
    edge = ops.full((batch, 1), _LOWEST, dtype="float32")

    def advance(reached: Any, now: Any) -> tuple[Any, Any]:
        one_more_label = (reached + now[1])[:, :-1]
        reached = ops.logaddexp(reached + now[0], ops.concatenate([edge, one_more_label], axis=1))
        return reached, reached

    # The last diagonal holds nothing but the end of the longest utterance, from which only a blank leads on.
    _, later = ops.scan(advance, first, ops.stack([_diagonals(blank)[:-1], _diagonals(label)[:-1]], axis=1))
    reached = ops.concatenate([ops.expand_dims(first, 0), later], axis=0)
    rows = ops.arange(batch, dtype="int32")
    indices = ((positions - 1 + counts) * batch + rows) * width + counts
    last = ops.take(ops.reshape(reached, (-1,)), indices)
    final = ops.take(ops.reshape(blank, (-1,)), (rows * positions + positions - 1) * width + counts)
    return last + final


def _diagonals(lattice: Any) -> Any:
    """[B, F, U] to [F + U - 1, B, U]: entry [d, b, u] is [b, d - u, u], and -1e9 where there is none."""
    batch, positions, width = ops.shape(lattice)
    rows = ops.pad(ops.swapaxes(lattice, 1, 2), ((0, 0), (0, 0), (0, width)), constant_values=_LOWEST)
    # Read with one column less, each row begins one place further right than the row above.
    flat = ops.reshape(rows, (batch, width * (positions + width)))[:, : width * (positions + width - 1)]
    return ops.transpose(ops.reshape(flat, (batch, width, positions + width - 1)), (2, 0, 1))
