"""Constraints on the next token: output lengths, forced prefixes, no repetition.

All functions work on logits [B, K, V] inside the loop of a search.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.ranking import at_most, log_normalizer, top_k
from tfseq2seq.spec import BOS, EOS, PAD, SearchSpec

# The log-probability of what is not allowed. It is finite, so sums of it stay ordered and never become NaN.
FORBIDDEN = -1e9


class Limits(NamedTuple):
    """The limits of the output lengths of a batch.

    Attributes:
        min_length: [B], the minimum number of tokens before <eos>.
        max_length: [B], the maximum number of tokens including <eos>.
        longest: scalar, the largest `max_length` of the batch.
        begun: the number of first tokens that are given, and have the probability 1.
    """

    min_length: tf.Tensor
    max_length: tf.Tensor
    longest: tf.Tensor
    begun: int = 0


def length_limits(
    spec: SearchSpec, batch: Any, source_lengths: Any = None, prefix: Any = None, begun: int = 0
) -> Limits:
    """Computes the limits of the output lengths.

    Args:
        spec: the options of the search.
        batch: the number of examples, B.
        source_lengths: [B], used for `max_ratio` and `min_ratio`.
        prefix: [B, P] padded ids. The maximum length is raised where the prefix and <eos> would not fit.
        begun: the number of its first tokens that have the probability 1.
    """
    min_length = tf.fill([batch], spec.min_length)
    max_length = tf.fill([batch], spec.max_length)
    if source_lengths is not None:
        lengths = tf.cast(source_lengths, tf.float32)
        if spec.max_ratio:
            max_length = tf.minimum(max_length, tf.cast(tf.math.ceil(lengths * spec.max_ratio), tf.int32) + 10)
        min_length = tf.maximum(min_length, tf.cast(tf.math.ceil(lengths * spec.min_ratio), tf.int32))
    if prefix is not None:
        max_length = tf.maximum(max_length, prompt_lengths(prefix) + 1)
    min_length = tf.minimum(min_length, max_length - 1)
    return Limits(min_length, max_length, tf.maximum(tf.reduce_max(max_length), 1), begun)


def prompt_lengths(prefix: Any) -> Any:
    """The number of tokens [B] int32 of padded prefixes [B, P]; None without."""
    return None if prefix is None else tf.reduce_sum(tf.cast(tf.not_equal(prefix, PAD), tf.int32), axis=1)


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
    """Returns log_probs [B, K, C] and tokens [B, K, C] of the best allowed next tokens of each hypothesis.

    At least `count` of them are not <eos>, if there are as many. Tokens that are not allowed may be among them, with
    the log-probability FORBIDDEN.

    Args:
        logits, ids, index, limits, spec, prefix: as for `constrain`.
        count: see above.
        normalized: whether the logits are normalized already.
    """
    if normalized:
        return top_k(constrain(logits, ids, index, limits, spec, prefix), at_most(count + 1, logits))
    if spec.no_repeat_ngram or spec.max_run:
        values, tokens = top_k(constrain(logits, ids, index, limits, spec, prefix), at_most(count + 1, logits))
        largest = tf.argmax(logits, axis=2, output_type=tf.int32)
        values -= log_normalizer(logits, tf.expand_dims(largest, 2))
        if limits.begun:
            values = tf.where(tf.logical_and(index < limits.begun, values > FORBIDDEN / 2), 0.0, values)
        return values, tokens
    # Only <pad>, <bos> and <eos> can be forbidden before the maximum length. Three additional candidates make up for
    # them, which avoids a pass over the whole vocabulary. <eos> is always added as a separate candidate.
    values, tokens = top_k(logits, at_most(count + 3, logits))
    normalizer = log_normalizer(logits, tokens[:, :, :1])
    must_end = tf.reshape(index + 1 >= limits.max_length, [-1, 1, 1])
    too_short = tf.logical_and(tf.reshape(index < limits.min_length, [-1, 1, 1]), tf.logical_not(must_end))
    special = tf.logical_or(tf.equal(tokens, PAD), tf.logical_or(tf.equal(tokens, BOS), tf.equal(tokens, EOS)))
    values = tf.where(tf.logical_or(special, must_end), FORBIDDEN, values - normalizer)
    # A gather instead of a slice: if the size of the vocabulary is unknown, TensorFlow assumes a slice may be empty.
    ends = tf.where(too_short, FORBIDDEN, tf.gather(logits, [EOS], axis=2) - normalizer)
    values, tokens = tf.concat([values, ends], axis=2), tf.concat([tokens, tf.fill(tf.shape(ends), EOS)], axis=2)
    if prefix is None:
        return values, tokens
    # Inside of a prefix its token is the only candidate.
    forced, inside = _prefix_token(index, prefix)
    beam = tf.shape(logits)[1]
    own = tf.repeat(forced[:, tf.newaxis], beam, axis=1)
    own_values = tf.gather(logits, own, batch_dims=2) - normalizer
    if limits.begun:
        own_values = tf.where(index < limits.begun, 0.0, own_values)
    inside = tf.expand_dims(inside, 1)
    values = tf.concat([tf.where(inside, FORBIDDEN, values), tf.where(inside, own_values, FORBIDDEN)], axis=2)
    return values, tf.concat([tokens, own], axis=2)


def constrain(logits: Any, ids: Any, index: Any, limits: Limits, spec: SearchSpec, prefix: Any = None) -> tf.Tensor:
    """Returns logits [B, K, V] in which tokens that are not allowed next have a large negative number.

    Args:
        logits: [B, K, V].
        ids: [B, K, L], the hypotheses so far; positions from `index` on are <pad>.
        index: scalar, the number of tokens of each hypothesis.
        limits: the limits of the output lengths.
        spec: the options of the search.
        prefix: [B, P] ids that each output must begin with, padded with <pad>.
    """
    size = tf.shape(logits)[2]
    tokens = tf.range(size)
    never = tf.logical_or(tf.equal(tokens, PAD), tf.equal(tokens, BOS))
    ends = tf.equal(tokens, EOS)[tf.newaxis]
    must_end = tf.expand_dims(index + 1 >= limits.max_length, 1)
    forbidden = tf.logical_or(never[tf.newaxis], tf.logical_and(must_end, tf.logical_not(ends)))
    too_short = tf.logical_and(tf.expand_dims(index < limits.min_length, 1), tf.logical_not(must_end))
    forbidden = tf.logical_or(forbidden, tf.logical_and(too_short, ends))
    # <eos> is exempt from the repetition rules: a hypothesis without any other allowed token must be able to end.
    repeatable = tf.expand_dims(ends, 1)
    if prefix is not None:
        forced, inside = _prefix_token(index, prefix)
        forbidden = tf.where(inside, tf.not_equal(tokens[tf.newaxis], forced), forbidden)
        # Tokens of a forced prefix are exempt too.
        repeatable = tf.logical_or(repeatable, tf.expand_dims(inside, 1))
    logits = logits + tf.expand_dims(tf.where(forbidden, FORBIDDEN, 0.0), 1)
    repeated = []
    if spec.no_repeat_ngram:
        repeated.append(_repeated_ngrams(ids, index, size, spec.no_repeat_ngram))
    if spec.max_run:
        repeated.append(_long_run(ids, index, size, spec.max_run))
    for mask in repeated:
        logits = tf.where(tf.logical_and(mask, tf.logical_not(repeatable)), FORBIDDEN, logits)
    return logits


def _prefix_token(index: Any, prefix: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the token of the prefix at a position, [B, 1], and whether the prefix is that long, [B, 1] bool."""
    padded = tf.pad(prefix, [[0, 0], [0, 1]])  # makes at least one column, with <pad> after the end
    forced = tf.gather(padded, tf.minimum(index, tf.shape(prefix)[1]), axis=1)
    return tf.expand_dims(forced, 1), tf.expand_dims(tf.not_equal(forced, PAD), 1)


def _repeated_ngrams(ids: Any, index: Any, size: Any, n: int) -> tf.Tensor:
    """Returns [B, K, V] bool: the tokens that would repeat an n-gram of the hypothesis."""
    shape = tf.shape(ids)
    batch, beam, length = shape[0], shape[1], shape[2]
    indices = tf.range(length)
    # ends[t]: the tokens at t - n + 1 .. t - 1 equal the last n - 1 tokens of the hypothesis.
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
    """Returns [B, K, V] bool: the last token of each hypothesis that ends with `run` equal tokens."""
    last = tf.gather(ids, tf.maximum(index - 1, 0), axis=2)
    is_full_run = tf.fill(tf.shape(last), True)
    for back in range(2, run + 1):
        is_full_run = tf.logical_and(is_full_run, tf.equal(last, tf.gather(ids, tf.maximum(index - back, 0), axis=2)))
    is_full_run = tf.logical_and(is_full_run, index >= run)
    return tf.logical_and(tf.expand_dims(is_full_run, 2), tf.equal(tf.expand_dims(last, 2), tf.range(size)))
