"""What CTC and transducer searches share: a beam of different prefixes, whose alignments are added up.

A beam holds every prefix once. A prefix can be reached by waiting (a blank, or in CTC a repeated token) and by saying
its last token, if the prefix without it is in the beam too; both then add up. Prefixes are told apart by a 64-bit hash
of their tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.spec import BLANK, BOS, EOS, PAD

# Of a linear congruential generator modulo 2^64 (Knuth); products wrap around.
_FACTOR = 6364136223846793005


class Prefixes(NamedTuple):
    """A beam of prefixes, and which of the slots are in use.

    ids [B, K, L] padded; lengths [B, K]; last [B, K] their last tokens, <pad> of the empty one; hashes and parents
    [B, K] int64, of themselves and without their last tokens; used [B, K] bool.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    last: tf.Tensor
    hashes: tf.Tensor
    parents: tf.Tensor
    used: tf.Tensor


def empty_prefixes(batch: tf.Tensor, beam: int, length: tf.Tensor) -> Prefixes:
    """One empty prefix for each example, and room for `beam` of at most `length` tokens."""
    zeros = tf.zeros(tf.stack([batch, beam]), tf.int32)
    return Prefixes(
        ids=tf.fill(tf.stack([batch, beam, length]), PAD),
        lengths=zeros,
        last=tf.fill(tf.stack([batch, beam]), PAD),
        hashes=tf.ones_like(zeros, tf.int64),
        parents=tf.zeros_like(zeros, tf.int64),
        used=tf.repeat(tf.one_hot([0], beam, True, False, dtype=tf.bool), batch, axis=0),
    )


def child_of(prefixes: Prefixes) -> tf.Tensor:
    """[B, K, K] bool: [b, j, k] is whether prefix j is prefix k and one more token."""
    same = tf.equal(tf.expand_dims(prefixes.parents, 2), tf.expand_dims(prefixes.hashes, 1))
    longer = tf.equal(tf.expand_dims(prefixes.lengths, 2), tf.expand_dims(prefixes.lengths, 1) + 1)
    both = tf.logical_and(tf.expand_dims(prefixes.used, 2), tf.expand_dims(prefixes.used, 1))
    return tf.logical_and(tf.logical_and(same, longer), both)


def joined(waited: tf.Tensor, said: tf.Tensor, prefixes: Prefixes) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds to what reaches each prefix by waiting [B, K] what reaches it from its parent in the beam.

    Args:
        waited: [B, K] log-probabilities.
        said: [B, K, V], of each prefix and one more token.

    Returns:
        The sums [B, K], and `said` with what has been added to them forbidden.
    """
    children = child_of(prefixes)
    # said[b, k, last of j], where k is j's parent: at most one of them.
    beam, size = said.shape[1], said.shape[2]
    from_each = tf.gather(said, tf.repeat(tf.expand_dims(prefixes.last, 1), beam, axis=1), batch_dims=2)
    arrived = tf.reduce_max(tf.where(children, tf.transpose(from_each, [0, 2, 1]), FORBIDDEN), axis=2)
    tokens = tf.one_hot(prefixes.last, size)
    taken = tf.matmul(tf.cast(children, tf.float32), tokens, transpose_a=True) > 0.5
    return log_add(waited, arrived), tf.where(taken, FORBIDDEN, said)


def grown(prefixes: Prefixes, parents: tf.Tensor, tokens: tf.Tensor, longer: tf.Tensor, used: tf.Tensor) -> Prefixes:
    """The next beam: prefixes `parents` [B, K], with `tokens` [B, K] added where `longer` [B, K]."""
    old = Prefixes(*(tf.gather(part, parents, batch_dims=1) for part in prefixes))
    here = tf.logical_and(
        tf.equal(tf.range(tf.shape(old.ids)[2]), tf.expand_dims(old.lengths, 2)), tf.expand_dims(longer, 2)
    )
    return Prefixes(
        ids=tf.where(here, tf.expand_dims(tokens, 2), old.ids),
        lengths=old.lengths + tf.cast(longer, tf.int32),
        last=tf.where(longer, tokens, old.last),
        hashes=tf.where(longer, old.hashes * _FACTOR + tf.cast(tokens, tf.int64) + 1, old.hashes),
        parents=tf.where(longer, old.hashes, old.parents),
        used=used,
    )


def sayable(size: int) -> tf.Tensor:
    """[V] float32: 0 for tokens a transcript may hold and a large negative number for the blank and special ones."""
    return tf.constant([FORBIDDEN if index in (BLANK, BOS, EOS) else 0.0 for index in range(size)])


def log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """log(exp(first) + exp(second)), also of large negative numbers."""
    high = tf.maximum(first, second)
    return high + tf.math.log1p(tf.exp(tf.minimum(first, second) - high))
