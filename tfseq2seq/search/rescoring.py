"""Complete hypotheses ranked anew by what language models say of them (n-best rescoring)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion
from tfseq2seq.spec import EOS, PAD

# Texts of ids [R, L], each ending with <eos> and padded, to their log-probabilities [R]; and the weight of those.
WholeScorer = tuple[Callable[[Any], tf.Tensor], float]


def rescored(found: Hypotheses, count: int, fusion: Fusion, whole: Sequence[WholeScorer] = ()) -> Hypotheses:
    """The `count` best of hypotheses by their scores and the weighted opinions of others.

    Args:
        found: N hypotheses [B, N, L], with or without <eos>.
        count: at most N.
        fusion: scorers that go through each token by token.
        whole: models that are asked for whole texts.
    """
    bare = tf.where(tf.equal(found.ids, EOS), PAD, found.ids)
    lengths = tf.reduce_sum(tf.cast(tf.not_equal(bare, PAD), tf.int32), axis=2)
    scores = found.scores
    if fusion:
        scores += fusion_total(fusion, bare)
    if whole:
        shape = tf.shape(bare)
        rows = tf.reshape(bare, tf.stack([-1, shape[2]]))
        ends = tf.one_hot(tf.reshape(lengths, [-1]), shape[2] + 1, EOS, PAD, dtype=tf.int32)
        closed = tf.pad(rows, [[0, 0], [0, 1]]) + ends
        for total, weight in whole:
            scores += weight * tf.reshape(total(closed), shape[:2])
    # What is no hypothesis stays last.
    scores = tf.where(found.scores > FORBIDDEN / 2, scores, found.scores)
    scores, best = tf.math.top_k(scores, count)
    attention = None if found.attention is None else tf.gather(found.attention, best, batch_dims=1)
    ids, lengths, log_probs = (
        tf.gather(part, best, batch_dims=1) for part in (found.ids, found.lengths, found.log_probs)
    )
    return Hypotheses(ids, lengths, log_probs, scores, attention)


def fusion_total(fusion: Fusion, ids: Any) -> tf.Tensor:
    """What scorers give for whole texts of ids [B, N, L], padded and without <eos>, and for their ends: [B, N]."""
    batch, length = tf.shape(ids)[0], tf.shape(ids)[2]
    count = ids.shape[1]
    own = tf.repeat(tf.expand_dims(tf.range(count), 0), batch, axis=0)

    def body(index: Any, total: Any, states: Any) -> Any:
        token = tf.gather(ids, index, axis=2)
        said = tf.not_equal(token, PAD)
        gain = tf.gather(fusion.scores(states), tf.expand_dims(token, 2), batch_dims=2)[:, :, 0]
        return index + 1, total + tf.where(said, gain, 0.0), fusion.moved(states, own, token, said)

    first = (tf.constant(0), tf.zeros(tf.stack([batch, count])), fusion.start(batch, count))
    _, total, states = tf.while_loop(lambda index, *_: index < length, body, first)
    return total + fusion.scores(states)[:, :, EOS]
