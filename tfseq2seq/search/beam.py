"""Beam search, batched and in graph; greedy search is a beam of 1.

A step function is called as `step(ids [B, K], index, visible [B, K, L * K], fixed, cache)` and returns
`(logits [B, K, V], cache, attention [B, K, S])`. `models/decoders.py` describes `visible`, `fixed` and `cache`. The
search reorders `cache["state"]` with the hypotheses and does not move `cache["history"]`. The capacity of the history
grows with the length of the outputs, see `search/growing_cache.py`.

Each step ranks all continuations of the K live hypotheses. Those of the best K that end with <eos> are finished. The
best K that do not end stay live. An example is done when K hypotheses are finished ("full"), or when no live hypothesis
can score better than the worst of those to return ("exact"). At the maximum length only <eos> is allowed. Every
returned hypothesis is therefore a complete sequence, and its log-probability is that of exactly this sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN, Limits, continuations
from tfseq2seq.search.fusion import JointScorer, gathered
from tfseq2seq.search.growing_cache import loop_with_growing_cache
from tfseq2seq.search.penalties import coverage_penalty, length_penalty
from tfseq2seq.search.ranking import at_most
from tfseq2seq.spec import EOS, PAD, SearchSpec

StepFunction = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


class Hypotheses(NamedTuple):
    """The output of a search, best first.

    Attributes:
        ids: [B, N, L] int32 without <bos>, with <eos>, padded.
        lengths: [B, N] int32, including <eos>; 0 if there is no such hypothesis.
        log_probs: [B, N] float32, summed over the tokens and <eos>.
        scores: [B, N] float32, the values that rank the hypotheses: log_probs with length and coverage penalty.
        attention: [B, N, L, S] float32, or None if it was not requested.
        limits: [B] int32, the maximum number of ids of each example; None if it is `max_length` for all. A hypothesis
            with so many ids may have been cut off.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor
    scores: tf.Tensor
    attention: tf.Tensor | None
    limits: tf.Tensor | None = None


class _Live(NamedTuple):
    """The live hypotheses."""

    last: tf.Tensor  # [B, K]: the last tokens, which are the next inputs
    ids: tf.Tensor  # [B, K, L]
    slots: tf.Tensor  # [B, K, L]: the slot in which each position was written to the cache
    sums: tf.Tensor  # [B, K]: log-probabilities
    coverage: tf.Tensor  # [B, K, S]: summed attention; [B, K, 0] without a coverage penalty


class _Finished(NamedTuple):
    """The finished hypotheses, best first."""

    ids: tf.Tensor  # [B, K, L]
    slots: tf.Tensor  # [B, K, L]
    lengths: tf.Tensor  # [B, K]
    sums: tf.Tensor  # [B, K]: log-probabilities
    scores: tf.Tensor  # [B, K]


def beam_search(
    step: StepFunction,
    fixed: Any,
    cache: dict[str, Any],
    start: Any,
    limits: Limits,
    spec: SearchSpec,
    prefix: Any = None,
    memory_mask: Any = None,
    with_attention: bool = False,
    joint_scorer: JointScorer | None = None,
) -> Hypotheses:
    """Returns the `spec.n_best` best sequences found with a beam of `spec.beam`.

    Args:
        step: the step function, see the module docstring.
        fixed: passed to `step` without change; nothing in it is reordered or repeated.
        cache: the cache of K = spec.beam hypotheses. Its capacity may be any number of positions.
        start: [B] first input tokens, usually <bos>.
        limits: the limits of the output lengths, from `length_limits`.
        spec: the options of the search.
        prefix: [B, P] ids that each output must begin with, padded.
        memory_mask: [B, S], needed for the coverage penalty.
        with_attention: whether to return attention weights too.
        joint_scorer: external scorers and a CTC output. log_probs then include them.
    """
    beam, length = spec.beam, limits.longest
    batch = tf.shape(start)[0]
    width = tf.shape(memory_mask)[1] if memory_mask is not None else 0
    follows_coverage = spec.coverage_penalty > 0 and memory_mask is not None
    live = _Live(
        last=tf.tile(tf.expand_dims(start, 1), [1, beam]),
        ids=tf.fill(tf.stack([batch, beam, length]), PAD),
        slots=tf.zeros(tf.stack([batch, beam, length]), tf.int32),
        sums=tf.repeat(tf.one_hot([0], beam, 0.0, FORBIDDEN), batch, axis=0),
        coverage=tf.zeros(tf.stack([batch, beam, width if follows_coverage else 0])),
    )
    finished = _Finished(
        live.ids,
        live.slots,
        tf.zeros(tf.stack([batch, beam]), tf.int32),
        tf.fill(tf.stack([batch, beam]), FORBIDDEN),
        tf.fill(tf.stack([batch, beam]), FORBIDDEN),
    )
    weights = tf.zeros(tf.stack([length if with_attention else 0, batch, beam, width]))

    scorer_states = joint_scorer.start(batch, beam) if joint_scorer else {}

    def unfinished(index: Any, live: Any, finished: Any, done: Any, *_: Any) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(done))

    def body(
        capacity: Any,
        index: Any,
        live: _Live,
        finished: _Finished,
        done: Any,
        cache: Any,
        weights: Any,
        scorer_states: Any,
    ) -> Any:
        # A step writes its own entry to the cache before it attends, so the current position is visible.
        own = tf.broadcast_to(tf.range(beam)[tf.newaxis, :, tf.newaxis], tf.stack([batch, beam, 1]))
        slots = _put(live.slots, own, index)
        seen = tf.equal(tf.expand_dims(slots[:, :, :capacity], 3), tf.range(beam))
        seen = tf.logical_and(seen, tf.expand_dims(tf.range(capacity) <= index, 1))
        visible = tf.reshape(seen, tf.stack([batch, beam, capacity * beam]))
        logits, cache, attention = step(live.last, index, visible, fixed, cache)
        if with_attention:
            weights = tf.tensor_scatter_nd_update(weights, [[index]], [tf.cast(attention, tf.float32)])
        coverage = live.coverage + tf.cast(attention, tf.float32) if follows_coverage else live.coverage

        pending: Any = []
        if joint_scorer:
            logits, pending = joint_scorer.ranked(tf.nn.log_softmax(tf.cast(logits, tf.float32)), scorer_states)
        tokens, parents, sums = _candidates(
            logits, live, index, limits, spec, prefix, normalized=joint_scorer is not None
        )
        ends = tf.equal(tokens, EOS)
        finished = _finish(
            finished,
            live,
            slots,
            coverage,
            tokens,
            parents,
            sums,
            ends,
            index,
            done,
            spec,
            memory_mask if follows_coverage else None,
        )
        _, chosen = tf.math.top_k(tf.where(ends, 2 * FORBIDDEN, sums), beam)
        live_sums = tf.gather(tf.where(ends, FORBIDDEN, sums), chosen, batch_dims=1)
        tokens = tf.gather(tokens, chosen, batch_dims=1)
        parents = tf.gather(parents, chosen, batch_dims=1)
        cache = {"state": gathered(cache["state"], parents), "history": cache["history"]}
        moved = _Live(
            tokens,
            _put(tf.gather(live.ids, parents, batch_dims=1), tf.expand_dims(tokens, 2), index),
            tf.gather(slots, parents, batch_dims=1),
            live_sums,
            tf.gather(coverage, parents, batch_dims=1),
        )
        if joint_scorer:
            scorer_states = joint_scorer.moved(scorer_states, pending, parents, tokens)
        done = tf.logical_or(done, _is_done(moved, finished, index + 1, limits, spec))
        return index + 1, moved, finished, done, cache, weights, scorer_states

    initial = (tf.constant(0), live, finished, tf.fill([batch], False), cache, weights, scorer_states)
    _, _, finished, _, _, weights, _ = loop_with_growing_cache(unfinished, body, initial, spec.max_length, length, beam)
    found = _best(finished, weights if with_attention else None, spec.n_best)
    return found._replace(limits=limits.max_length)


def _candidates(
    logits: Any, live: _Live, index: Any, limits: Limits, spec: SearchSpec, prefix: Any, normalized: bool
) -> tuple[Any, Any, Any]:
    """Returns the best 2K continuations: tokens, parent indices and sums of log_probs, [B, C] each, best first."""
    # The best of each hypothesis first, then the best of all: this avoids a pass over [B, K * V] sums.
    values, tokens = continuations(
        tf.cast(logits, tf.float32),
        live.ids,
        index,
        limits,
        spec,
        at_most(2 * spec.beam, logits),
        prefix,
        normalized,
    )
    per_hypothesis = values.shape[2]
    flat = tf.stack([tf.shape(values)[0], spec.beam * per_hypothesis])
    sums = tf.reshape(values + tf.expand_dims(live.sums, 2), flat)
    sums, indices = tf.math.top_k(sums, min(2 * spec.beam, spec.beam * per_hypothesis))
    return tf.gather(tf.reshape(tokens, flat), indices, batch_dims=1), indices // per_hypothesis, sums


def _finish(
    finished: _Finished,
    live: _Live,
    slots: Any,
    coverage: Any,
    tokens: Any,
    parents: Any,
    sums: Any,
    ends: Any,
    index: Any,
    done: Any,
    spec: SearchSpec,
    memory_mask: Any,
) -> _Finished:
    """Adds those of this step's best K continuations that end with <eos> to the finished hypotheses. Keeps the best."""
    beam = spec.beam
    tokens, parents, sums, ends = (x[:, :beam] for x in (tokens, parents, sums, ends))
    accepted = ends & (sums > FORBIDDEN / 2) & tf.logical_not(tf.expand_dims(done, 1))
    scores = sums / length_penalty(index + 1, spec)
    if memory_mask is not None:
        scores += coverage_penalty(tf.gather(coverage, parents, batch_dims=1), memory_mask, spec.coverage_penalty)
    new = _Finished(
        _put(tf.gather(live.ids, parents, batch_dims=1), tf.expand_dims(tokens, 2), index),
        tf.gather(slots, parents, batch_dims=1),
        tf.fill(tf.shape(tokens), index + 1),
        sums,
        tf.where(accepted, scores, FORBIDDEN),
    )
    merged = _Finished(*(tf.concat([old, more], axis=1) for old, more in zip(finished, new, strict=True)))
    _, best = tf.math.top_k(merged.scores, beam)
    return _Finished(*(tf.gather(part, best, batch_dims=1) for part in merged))


def _is_done(live: _Live, finished: _Finished, index: Any, limits: Limits, spec: SearchSpec) -> tf.Tensor:
    """Returns [B] bool: whether further steps cannot change the result."""
    exhausted = tf.logical_or(index >= limits.max_length, tf.reduce_max(live.sums, axis=1) <= FORBIDDEN / 2)
    if spec.stop == "full":
        return tf.logical_or(exhausted, tf.reduce_min(finished.scores, axis=1) > FORBIDDEN / 2)
    # Sums never increase, so a live sum divided by the largest length penalty is an upper bound of its final score.
    # The coverage penalty is never positive.
    reachable = tf.reduce_max(live.sums, axis=1) / length_penalty(limits.max_length, spec)
    return tf.logical_or(exhausted, finished.scores[:, spec.n_best - 1] >= reachable)


def _best(finished: _Finished, weights: Any, count: int) -> Hypotheses:
    best_finished = _Finished(*(part[:, :count] for part in finished))
    exists = best_finished.scores > FORBIDDEN / 2
    ids = tf.where(tf.expand_dims(exists, 2), best_finished.ids, PAD)
    attention = None
    if weights is not None:
        # weights [L, B, K, S] are indexed by the slot they were written in. `slots` has the slots of each hypothesis.
        by_example = tf.transpose(weights, [1, 0, 2, 3])
        slots = tf.transpose(best_finished.slots, [0, 2, 1])
        attention = tf.transpose(tf.gather(by_example, slots, batch_dims=2), [0, 2, 1, 3])
        attention *= tf.expand_dims(tf.cast(tf.not_equal(ids, PAD), tf.float32), 3)
    lengths = tf.where(exists, best_finished.lengths, 0)
    return Hypotheses(ids, lengths, best_finished.sums, best_finished.scores, attention)


def _put(rows: Any, value: Any, index: Any) -> tf.Tensor:
    """Returns `rows` [B, K, L] with `value` [B, K, 1] at position `index`."""
    return tf.where(tf.equal(tf.range(tf.shape(rows)[2]), index), value, rows)
