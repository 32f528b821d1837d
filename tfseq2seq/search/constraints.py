"""What may come next: lengths, forced prefixes, no repetition. Everything works on [B, K, V] logits inside the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.ranking import at_most, log_normalizer, top_k
from tfseq2seq.spec import BOS, EOS, PAD, SearchSpec

# Finite, so that sums of it stay ordered and nothing turns into NaN.
FORBIDDEN = -1e9


class Limits(NamedTuple):
    """Of each example's output: `least` [B] tokens before <eos>, at most `most` [B] with it, `longest` overall."""

    least: tf.Tensor
    most: tf.Tensor
    longest: tf.Tensor


def length_limits(spec: SearchSpec, batch: Any, source_lengths: Any = None, prefix: Any = None) -> Limits:
    """Limits from the spec, the source lengths [B] where ratios are asked for, and the room a prefix [B, P] needs."""
    least = tf.fill([batch], spec.min_length)
    most = tf.fill([batch], spec.max_length)
    if source_lengths is not None:
        lengths = tf.cast(source_lengths, tf.float32)
        if spec.max_ratio:
            most = tf.minimum(most, tf.cast(tf.math.ceil(lengths * spec.max_ratio), tf.int32) + 10)
        least = tf.maximum(least, tf.cast(tf.math.ceil(lengths * spec.min_ratio), tf.int32))
    if prefix is not None:
        most = tf.maximum(most, tf.reduce_sum(tf.cast(tf.not_equal(prefix, PAD), tf.int32), axis=1) + 1)
    least = tf.minimum(least, most - 1)
    return Limits(least, most, tf.maximum(tf.reduce_max(most), 1))


def continuations(
    logits: Any,
    ids: Any,
    index: Any,
    limits: Limits,
    spec: SearchSpec,
    count: int,
    prefix: Any = None,
    normalized: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each hypothesis the best tokens that may come next: log-probabilities [B, K, C], forbidden ones among them at
    a large negative number, and tokens [B, K, C], at least `count` that do not end it where there are as many.

    Arguments as `constrain`; `normalized` logits are taken as they are.
    """
    if normalized:
        return top_k(constrain(logits, ids, index, limits, spec, prefix), at_most(count + 1, logits))
    if prefix is not None or spec.no_repeat_ngram or spec.max_run:
        values, tokens = top_k(constrain(logits, ids, index, limits, spec, prefix), at_most(count + 1, logits))
        largest = tf.argmax(logits, axis=2, output_type=tf.int32)
        return values - log_normalizer(logits, tf.expand_dims(largest, 2)), tokens
    # Only <pad>, <bos> and <eos> are ever barred while an output goes on: with three more candidates there is no need
    # to go through the whole vocabulary for them. <eos> is always a candidate of its own.
    values, tokens = top_k(logits, at_most(count + 3, logits))
    normalizer = log_normalizer(logits, tokens[:, :, :1])
    closing = tf.reshape(index + 1 >= limits.most, [-1, 1, 1])
    early = tf.logical_and(tf.reshape(index < limits.least, [-1, 1, 1]), tf.logical_not(closing))
    special = tf.logical_or(tf.equal(tokens, PAD), tf.logical_or(tf.equal(tokens, BOS), tf.equal(tokens, EOS)))
    values = tf.where(tf.logical_or(special, closing), FORBIDDEN, values - normalizer)
    # Gathered and not sliced: of a vocabulary of unknown size a slice might be empty for all TensorFlow knows.
    ends = tf.where(early, FORBIDDEN, tf.gather(logits, [EOS], axis=2) - normalizer)
    return tf.concat([values, ends], axis=2), tf.concat([tokens, tf.fill(tf.shape(ends), EOS)], axis=2)


def constrain(logits: Any, ids: Any, index: Any, limits: Limits, spec: SearchSpec, prefix: Any = None) -> tf.Tensor:
    """Logits with everything that may not come next put to a large negative number.

    Args:
        logits: [B, K, V].
        ids: [B, K, L], the hypotheses so far; positions from `index` on are <pad>.
        index: scalar, how many tokens each has.
        limits: of the output's length.
        prefix: [B, P] ids each output begins with, padded with <pad>.
    """
    size = tf.shape(logits)[2]
    tokens = tf.range(size)
    never = tf.logical_or(tf.equal(tokens, PAD), tf.equal(tokens, BOS))
    ends = tf.equal(tokens, EOS)[tf.newaxis]
    closing = tf.expand_dims(index + 1 >= limits.most, 1)
    barred = tf.logical_or(never[tf.newaxis], tf.logical_and(closing, tf.logical_not(ends)))
    early = tf.logical_and(tf.expand_dims(index < limits.least, 1), tf.logical_not(closing))
    barred = tf.logical_or(barred, tf.logical_and(early, ends))
    # Ending stays possible: a hypothesis that may say nothing new must be able to stop.
    may_repeat = tf.expand_dims(ends, 1)
    if prefix is not None:
        forced, inside = _prefix_token(index, prefix)
        barred = tf.where(inside, tf.not_equal(tokens[tf.newaxis], forced), barred)
        # What is forced comes even if it repeats itself.
        may_repeat = tf.logical_or(may_repeat, tf.expand_dims(inside, 1))
    logits = logits + tf.expand_dims(tf.where(barred, FORBIDDEN, 0.0), 1)
    repeated = []
    if spec.no_repeat_ngram:
        repeated.append(_repeated_ngrams(ids, index, size, spec.no_repeat_ngram))
    if spec.max_run:
        repeated.append(_long_run(ids, index, size, spec.max_run))
    for mask in repeated:
        logits = tf.where(tf.logical_and(mask, tf.logical_not(may_repeat)), FORBIDDEN, logits)
    return logits


def _prefix_token(index: Any, prefix: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The prefix's token at a position, [B, 1], and whether the prefix reaches that far, [B, 1] bool."""
    padded = tf.pad(prefix, [[0, 0], [0, 1]])  # at least one column, and <pad> after the end
    forced = tf.gather(padded, tf.minimum(index, tf.shape(prefix)[1]), axis=1)
    return tf.expand_dims(forced, 1), tf.expand_dims(tf.not_equal(forced, PAD), 1)


def _repeated_ngrams(ids: Any, index: Any, size: Any, n: int) -> tf.Tensor:
    """[B, K, V] bool: tokens that would complete an n-gram the hypothesis already holds."""
    shape = tf.shape(ids)
    batch, beam, length = shape[0], shape[1], shape[2]
    indices = tf.range(length)
    # ends[t]: an n-gram's first n - 1 tokens, at t - n + 1 .. t - 1, equal the hypothesis's last n - 1.
    ends = tf.broadcast_to(tf.logical_and(indices >= n - 1, indices < index), shape)
    for back in range(1, n):
        shifted = tf.pad(ids, [[0, 0], [0, 0], [back, 0]])[:, :, :length]
        last = tf.gather(ids, tf.maximum(index - back, 0), axis=2)
        ends = tf.logical_and(ends, tf.equal(shifted, tf.expand_dims(last, 2)))
    rows = tf.repeat(tf.range(batch * beam), length)
    where = tf.stack([rows, tf.reshape(ids, [-1])], axis=1)
    counts = tf.scatter_nd(where, tf.reshape(tf.cast(ends, tf.int32), [-1]), tf.stack([batch * beam, size]))
    return tf.reshape(counts > 0, tf.stack([batch, beam, size]))


def _long_run(ids: Any, index: Any, size: Any, run: int) -> tf.Tensor:
    """[B, K, V] bool: the last token, where the hypothesis ends in `run` of it."""
    last = tf.gather(ids, tf.maximum(index - 1, 0), axis=2)
    full = tf.fill(tf.shape(last), True)
    for back in range(2, run + 1):
        full = tf.logical_and(full, tf.equal(last, tf.gather(ids, tf.maximum(index - back, 0), axis=2)))
    full = tf.logical_and(full, index >= run)
    return tf.logical_and(tf.expand_dims(full, 2), tf.equal(tf.expand_dims(last, 2), tf.range(size)))
