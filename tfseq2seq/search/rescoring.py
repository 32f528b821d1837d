"""N-best rescoring: complete hypotheses are ranked again with the scores of language models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion
from tfseq2seq.spec import EOS, PAD

# A function from ids [R, L], each row ending with <eos> and padded, to their log_probs [R]; and its weight.
WholeScorer = tuple[Callable[[Any], tf.Tensor], float]


def rescored(found: Hypotheses, count: int, fusion: Fusion, whole: Sequence[WholeScorer] = ()) -> Hypotheses:
    """Returns the `count` best hypotheses by the sum of their scores and the weighted external scores.

    Args:
        found: N hypotheses [B, N, L], with or without <eos>.
        count: the number of hypotheses to return, at most N.
        fusion: external scorers that score token by token.
        whole: functions that score complete texts, with their weights.
    """
    without_eos = tf.where(tf.equal(found.ids, EOS), PAD, found.ids)
    lengths = tf.reduce_sum(tf.cast(tf.not_equal(without_eos, PAD), tf.int32), axis=2)
    scores = found.scores
    if fusion:
        scores += fusion_total(fusion, without_eos)
    if whole:
        shape = tf.shape(without_eos)
        rows = tf.reshape(without_eos, tf.stack([-1, shape[2]]))
        ends = tf.one_hot(tf.reshape(lengths, [-1]), shape[2] + 1, EOS, PAD, dtype=tf.int32)
        with_eos = tf.pad(rows, [[0, 0], [0, 1]]) + ends
        for total, weight in whole:
            scores += weight * tf.reshape(total(with_eos), shape[:2])
    # Empty slots stay last.
    scores = tf.where(found.scores > FORBIDDEN / 2, scores, found.scores)
    scores, best = tf.math.top_k(scores, count)
    attention = None if found.attention is None else tf.gather(found.attention, best, batch_dims=1)
    ids, lengths, log_probs = (
        tf.gather(part, best, batch_dims=1) for part in (found.ids, found.lengths, found.log_probs)
    )
    return Hypotheses(ids, lengths, log_probs, scores, attention, found.limits)


def fusion_total(fusion: Fusion, ids: Any) -> tf.Tensor:
    """Returns the scores [B, N] of complete texts of ids [B, N, L], padded and without <eos>.

    The scores include that of the end of the text.
    """
    batch, length = tf.shape(ids)[0], tf.shape(ids)[2]
    count = ids.shape[1]
    identity = tf.repeat(tf.expand_dims(tf.range(count), 0), batch, axis=0)

    def body(index: Any, total: Any, states: Any) -> Any:
        token = tf.gather(ids, index, axis=2)
        is_token = tf.not_equal(token, PAD)
        gain = tf.gather(fusion.scores(states), tf.expand_dims(token, 2), batch_dims=2)[:, :, 0]
        return index + 1, total + tf.where(is_token, gain, 0.0), fusion.moved(states, identity, token, is_token)

    first = (tf.constant(0), tf.zeros(tf.stack([batch, count])), fusion.start(batch, count))
    _, total, states = tf.while_loop(lambda index, *_: index < length, body, first)
    return total + fusion.scores(states)[:, :, EOS]
