"""Sampling from the model, with temperature, top-k (Fan et al. 2018) and top-p (Holtzman et al. 2020)."""

from __future__ import annotations

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
) -> Hypotheses:
    """Draws `spec.n_best` sequences for each example. They are returned in the order drawn.

    Equal seeds give equal sequences. log_probs are those of the model, before temperature, top-k and top-p. The
    arguments are those of `beam_search`, with a cache of K = spec.n_best hypotheses. `attention_width` is S.
    """
    count, length = spec.n_best, limits.longest
    batch = tf.shape(start)[0]
    slots = tf.reshape(tf.range(count), [1, count, 1, 1])
    last = tf.repeat(tf.expand_dims(start, 1), count, axis=1)
    ids = tf.fill(tf.stack([batch, count, length]), PAD)
    weights = tf.zeros(tf.stack([batch, count, length, attention_width if with_attention else 0]))

    def unfinished(index: Any, last: Any, ids: Any, sums: Any, done: Any, *_: Any) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(done))

    def body(capacity: Any, index: Any, last: Any, ids: Any, sums: Any, done: Any, cache: Any, weights: Any) -> Any:
        seen = tf.equal(slots, tf.reshape(tf.range(count), [1, 1, 1, count]))
        seen = tf.logical_and(seen, tf.reshape(tf.range(capacity) <= index, [1, 1, -1, 1]))
        visible = tf.broadcast_to(seen, tf.stack([batch, count, capacity, count]))
        visible = tf.reshape(visible, tf.stack([batch, count, capacity * count]))
        logits, cache, attention = step(last, index, visible, fixed, cache)
        logits = tf.cast(logits, tf.float32)
        allowed = constrain(logits, ids, index, limits, spec, prefix)
        noise = tf.random.stateless_uniform(tf.shape(logits), tf.stack([spec.seed, index]), 1e-20, 1.0)
        gumbel = -tf.math.log(-tf.math.log(noise))
        tokens = tf.argmax(_sharpen(allowed, spec) + gumbel, axis=2, output_type=tf.int32)
        log_probs = tf.gather(tf.nn.log_softmax(logits), tokens, batch_dims=2)
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


def _sharpen(logits: Any, spec: SearchSpec) -> tf.Tensor:
    """Divides logits [B, K, V] by the temperature and sets tokens outside of top-k and top-p to FORBIDDEN."""
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
    return logits
