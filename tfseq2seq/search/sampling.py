"""Writing token by token without a beam: the most probable token, or one that is drawn.

What is drawn follows temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024) and
the repetition penalty (Keskar et al. 2019).

Each example draws from a stream of random numbers of its own, which its seeds alone determine. What is drawn for an
example therefore depends neither on the other examples of its batch nor on its place among them.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses, StepFunction
from tfseq2seq.search.constraints import FORBIDDEN, Limits, constrain
from tfseq2seq.search.growing_cache import loop_with_growing_cache
from tfseq2seq.spec import EOS, PAD, SearchSpec


def sample(
    step: StepFunction,
    fixed: Any,
    cache: dict[str, Any],
    start: Any,
    limits: Limits,
    spec: SearchSpec,
    prefix: Any = None,
    with_attention: bool = False,
    attention_width: Any = 0,
    seeds: Any = None,
) -> Hypotheses:
    """Draws `spec.n_best` sequences for each example. They are returned in the order drawn.

    Equal seeds give equal sequences. log_probs are those of the model, before temperature, penalties and cuts of the
    distribution. The arguments are those of `beam_search`, with a cache of K = spec.n_best hypotheses.
    `attention_width` is S. `seeds` are as for `random_numbers`.
    """
    count, length = spec.n_best, limits.longest
    batch = tf.shape(start)[0]
    slots = tf.reshape(tf.range(count), [1, count, 1, 1])
    last = tf.repeat(tf.expand_dims(start, 1), count, axis=1)
    ids = tf.fill(tf.stack([batch, count, length]), PAD)
    weights = tf.zeros(tf.stack([batch, count, length, attention_width if with_attention else 0]))
    numbers = random_numbers(spec, batch, length, seeds)

    def unfinished(index: Any, last: Any, ids: Any, sums: Any, done: Any, *_: Any) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(done))

    def body(capacity: Any, index: Any, last: Any, ids: Any, sums: Any, done: Any, cache: Any, weights: Any) -> Any:
        seen = tf.equal(slots, tf.reshape(tf.range(count), [1, 1, 1, count]))
        seen = tf.logical_and(seen, tf.reshape(tf.range(capacity) <= index, [1, 1, -1, 1]))
        visible = tf.broadcast_to(seen, tf.stack([batch, count, capacity, count]))
        visible = tf.reshape(visible, tf.stack([batch, count, capacity * count]))
        logits, cache, attention = step(last, index, visible, fixed, cache)
        tokens, log_probs = next_tokens(logits, ids, index, limits, spec, prefix, tf.gather(numbers, index, axis=1))
        sums += tf.where(done, 0.0, log_probs)
        tokens = tf.where(done, PAD, tokens)
        is_current = tf.equal(tf.range(length), index)
        ids = tf.where(is_current, tf.expand_dims(tokens, 2), ids)
        if with_attention:
            live_attention = tf.where(tf.expand_dims(done, 2), 0.0, tf.cast(attention, tf.float32))
            weights = tf.where(is_current[:, tf.newaxis], tf.expand_dims(live_attention, 2), weights)
        done = tf.logical_or(done, tf.equal(tokens, EOS))
        return index + 1, tokens, ids, sums, done, cache, weights

    sums = tf.zeros(tf.stack([batch, count]))
    done = tf.fill(tf.stack([batch, count]), False)
    first = (tf.constant(0), last, ids, sums, done, cache, weights)
    _, _, ids, sums, _, _, weights = loop_with_growing_cache(unfinished, body, first, spec.max_length, length, count)
    lengths = tf.reduce_sum(tf.cast(tf.not_equal(ids, PAD), tf.int32), axis=2)
    return Hypotheses(ids, lengths, sums, sums, weights if with_attention else None, limits.max_length)


def random_numbers(spec: SearchSpec, batch: Any, length: Any, seeds: Any = None) -> tf.Tensor:
    """Random numbers [B, L, K] in [0, 1) for L positions of K = spec.n_best sequences of each example.

    The numbers of an example depend on its seeds alone: a larger L only adds numbers at the end.

    Args:
        spec: the options of the search.
        batch: the number of examples, B.
        length: the number of positions, L.
        seeds: [B, 2] int32; None for (spec.seed, 0) for each example.
    """
    if seeds is None:
        seeds = tf.tile(tf.constant([[spec.seed, 0]]), tf.stack([batch, 1]))
    shape = tf.stack([length, spec.n_best])
    each = tf.TensorSpec([None, spec.n_best], tf.float32)
    return tf.map_fn(lambda pair: tf.random.stateless_uniform(shape, pair), seeds, fn_output_signature=each)


def next_tokens(
    logits: Any, ids: Any, index: Any, limits: Limits, spec: SearchSpec, prefix: Any, numbers: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """The tokens [B, K] that sequences go on with, and their log-probabilities [B, K] by the model.

    With `spec.sample` they are drawn, otherwise they are the most probable ones.

    Args:
        logits, ids, index, limits, spec, prefix: as for `constrain`.
        numbers: [B, K], random numbers in [0, 1).
    """
    logits = tf.cast(logits, tf.float32)
    weighed = _penalized(logits, ids, spec) if spec.sample else logits
    allowed = constrain(weighed, ids, index, limits, spec, prefix)
    if spec.sample:
        tokens = _drawn(_sharpen(allowed, spec), numbers)
    else:
        tokens = tf.argmax(allowed, axis=2, output_type=tf.int32)
    log_probs = tf.gather(tf.nn.log_softmax(logits), tokens, batch_dims=2)
    return tokens, tf.where(index < limits.begun, 0.0, log_probs) if limits.begun else log_probs


def _penalized(logits: Any, ids: Any, spec: SearchSpec) -> tf.Tensor:
    """Logits [B, K, V], lowered for the tokens that ids [B, K, L] have already."""
    if spec.repetition_penalty == 1.0:
        return logits
    shape = tf.shape(ids)
    rows = tf.repeat(tf.range(shape[0] * shape[1]), shape[2])
    where = tf.stack([rows, tf.reshape(ids, [-1])], axis=1)
    counts = tf.scatter_nd(where, tf.ones_like(rows), tf.stack([shape[0] * shape[1], tf.shape(logits)[2]]))
    is_repeated = tf.reshape(counts > 0, tf.shape(logits))
    # A logit below 0 would rise when it is divided.
    lowered = tf.where(logits > 0.0, logits / spec.repetition_penalty, logits * spec.repetition_penalty)
    return tf.where(is_repeated, lowered, logits)


def _drawn(logits: Any, numbers: Any) -> tf.Tensor:
    """Tokens [B, K] from the distributions of logits [B, K, V]: the first whose cumulated probability exceeds the
    number [B, K] in [0, 1)."""
    cumulated = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    thresholds = tf.expand_dims(numbers, 2) * cumulated[..., -1:]
    # The most probable token stands in where rounding makes a threshold the whole sum.
    found = tf.argmax(tf.cast(cumulated > thresholds, tf.int32), axis=2, output_type=tf.int32)
    is_found = tf.reduce_any(cumulated > thresholds, axis=2)
    return tf.where(is_found, found, tf.argmax(logits, axis=2, output_type=tf.int32))


def _sharpen(logits: Any, spec: SearchSpec) -> tf.Tensor:
    """Divides logits [B, K, V] by the temperature and sets tokens that must not be drawn to FORBIDDEN."""
    logits = logits / spec.temperature
    # The number of tokens is only known in the graph where words of the source can be copied.
    size = logits.shape[-1] or tf.shape(logits)[-1]
    if spec.top_k:
        threshold = tf.math.top_k(logits, tf.minimum(spec.top_k, size)).values[..., -1:]
        logits = tf.where(logits < threshold, FORBIDDEN, logits)
    if spec.top_p < 1.0:
        ordered = tf.math.top_k(logits, size).values
        probabilities = tf.nn.softmax(ordered)
        # A token is kept if the probability mass before it is below p, so the first one is always kept.
        mass_before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        live_attention = tf.logical_or(mass_before < spec.top_p, tf.range(size) < 1)
        threshold = tf.reduce_min(tf.where(live_attention, ordered, -2 * FORBIDDEN), axis=-1, keepdims=True)
        logits = tf.where(logits < threshold, FORBIDDEN, logits)
    if spec.min_p:
        threshold = tf.reduce_max(logits, axis=-1, keepdims=True) + math.log(spec.min_p)
        logits = tf.where(logits < threshold, FORBIDDEN, logits)
    return logits
