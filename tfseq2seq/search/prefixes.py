"""Prefixes of the CTC and transducer searches: a beam of distinct prefixes, each summed over its alignments.

A beam holds each prefix once. A prefix is reached in two ways: from itself by a blank (in CTC also by a repeated
token), and from its parent, the prefix without the last token, if the parent is in the beam. The two probabilities are
added. Prefixes are compared by a 64-bit hash of their tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.spec import BLANK, BOS, EOS, PAD

# The multiplier of a linear congruential generator modulo 2^64 (Knuth). Products wrap around.
_FACTOR = 6364136223846793005


class Prefixes(NamedTuple):
    """A beam of prefixes.

    Attributes:
        ids: [B, K, L] tokens, padded with <pad>.
        lengths: [B, K].
        last: [B, K] last tokens; <pad> for the empty prefix.
        hashes: [B, K] int64 hashes of the prefixes.
        parents: [B, K] int64 hashes of the prefixes without their last tokens.
        used: [B, K] bool, whether the slot holds a prefix.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    last: tf.Tensor
    hashes: tf.Tensor
    parents: tf.Tensor
    used: tf.Tensor


def empty_prefixes(batch: tf.Tensor, beam: int, length: tf.Tensor) -> Prefixes:
    """Returns one empty prefix per example, in a beam of `beam` slots with the capacity for `length` tokens."""
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
    """Returns [B, K, K] bool: entry [b, j, k] is whether prefix j is prefix k extended by one token."""
    same = tf.equal(tf.expand_dims(prefixes.parents, 2), tf.expand_dims(prefixes.hashes, 1))
    longer = tf.equal(tf.expand_dims(prefixes.lengths, 2), tf.expand_dims(prefixes.lengths, 1) + 1)
    both = tf.logical_and(tf.expand_dims(prefixes.used, 2), tf.expand_dims(prefixes.used, 1))
    return tf.logical_and(tf.logical_and(same, longer), both)


def merged(unchanged: tf.Tensor, extended: tf.Tensor, prefixes: Prefixes) -> tuple[tf.Tensor, tf.Tensor]:
    """Merges extensions that equal a prefix of the beam into that prefix, by adding their probabilities.

    Args:
        unchanged: [B, K] log-probabilities of the prefixes that are not extended at this step.
        extended: [B, K, V] log-probabilities of each prefix extended by each token.
        prefixes: the beam.

    Returns:
        The sums [B, K], and `extended` with FORBIDDEN for the merged entries.
    """
    children = child_of(prefixes)
    # from_each[b, k, j] is extended[b, k, last token of j]. For each j, at most one k is its parent.
    beam, size = extended.shape[1], extended.shape[2]
    from_each = tf.gather(extended, tf.repeat(tf.expand_dims(prefixes.last, 1), beam, axis=1), batch_dims=2)
    from_parent = tf.reduce_max(tf.where(children, tf.transpose(from_each, [0, 2, 1]), FORBIDDEN), axis=2)
    tokens = tf.one_hot(prefixes.last, size)
    taken = tf.matmul(tf.cast(children, tf.float32), tokens, transpose_a=True) > 0.5
    return log_add(unchanged, from_parent), tf.where(taken, FORBIDDEN, extended)


def extended_prefixes(
    prefixes: Prefixes, parents: tf.Tensor, tokens: tf.Tensor, longer: tf.Tensor, used: tf.Tensor
) -> Prefixes:
    """Returns the next beam: the prefixes at indices `parents` [B, K], extended by `tokens` [B, K] where `longer`.

    Args:
        prefixes: the beam of the step before.
        parents: [B, K] indices into it.
        tokens: [B, K].
        longer: [B, K] bool, whether the prefix is extended.
        used: [B, K] bool, whether the slot of the next beam holds a prefix.
    """
    old = Prefixes(*(tf.gather(part, parents, batch_dims=1) for part in prefixes))
    is_next = tf.logical_and(
        tf.equal(tf.range(tf.shape(old.ids)[2]), tf.expand_dims(old.lengths, 2)), tf.expand_dims(longer, 2)
    )
    return Prefixes(
        ids=tf.where(is_next, tf.expand_dims(tokens, 2), old.ids),
        lengths=old.lengths + tf.cast(longer, tf.int32),
        last=tf.where(longer, tokens, old.last),
        hashes=tf.where(longer, old.hashes * _FACTOR + tf.cast(tokens, tf.int64) + 1, old.hashes),
        parents=tf.where(longer, old.hashes, old.parents),
        used=used,
    )


def allowed_tokens(size: int) -> tf.Tensor:
    """Returns an additive mask [V] float32: 0 for tokens of transcripts, FORBIDDEN for the blank, <bos> and <eos>."""
    return tf.constant([FORBIDDEN if index in (BLANK, BOS, EOS) else 0.0 for index in range(size)])


def log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns log(exp(first) + exp(second)), also for large negative numbers."""
    high = tf.maximum(first, second)
    return high + tf.math.log1p(tf.exp(tf.minimum(first, second) - high))
