"""Outputs of a decoder without a beam, one token at a time.

The loops of `search/` keep their state inside. Here the state is outside, so that a caller can show what is written and
stop when nobody reads it any more. The tokens are those of the loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.inference.decoding.base import Written
from tfseq2seq.search.beam import StepFunction
from tfseq2seq.search.constraints import Limits, length_limits, prompt_lengths
from tfseq2seq.search.growing_cache import widened
from tfseq2seq.search.penalties import length_penalty
from tfseq2seq.search.sampling import next_tokens, random_numbers
from tfseq2seq.search.stop_strings import StopStrings
from tfseq2seq.search.suppression import Suppression
from tfseq2seq.sources import Source, SourceInputs
from tfseq2seq.spec import BOS, EOS, PAD, SearchSpec


class _State(NamedTuple):
    """The outputs of a batch so far, and what their next tokens depend on. All tensors have the batch first."""

    ids: Any  # [B, t]
    sums: Any  # [B]: log-probabilities
    done: Any  # [B] bool
    prefix: Any  # [B, P]: the prompts, padded
    min_length: Any  # [B]
    max_length: Any  # [B]
    numbers: Any  # [B, L]: random numbers for all positions; [B, 0] without sampling
    fixed: Any  # of the model
    cache: Any  # of the decoder, with a history of t positions


class SingleWriter:
    """A `TokenWriter` of greedy search and of sampling.

    Args:
        model: a model whose decoder has a step function.
        source: what it reads.
        spec: the options of the search, with one output for each input and no beam.
        stops: the stop strings, or None.
        suppression: the tokens that are not written, or None.
        begun: the number of first tokens that have the probability 1.
    """

    def __init__(
        self,
        model: Any,
        source: Source,
        spec: SearchSpec,
        stops: StopStrings | None,
        suppression: Suppression | None = None,
        begun: int = 0,
    ):
        self.model, self.source, self.spec, self.stops = model, source, spec, stops
        self.suppression, self.begun = suppression, begun

    def start(self, given: SourceInputs) -> _State:
        memory = self.model.encode(given.inputs)
        lengths = self.source.output_lengths(given, memory)
        batch = tf.shape(lengths)[0]
        limits = length_limits(self.spec, batch, lengths, given.prefix)
        fixed, cache = self.model.start(memory, 1, 0)
        if self.stops is not None:
            cache = self.stops.cache(cache, batch, 1)
        prefix = tf.zeros(tf.stack([batch, 0]), tf.int32) if given.prefix is None else given.prefix
        numbers = tf.zeros(tf.stack([batch, 0]))
        if self.spec.sample:
            numbers = random_numbers(self.spec, batch, limits.longest, given.seeds)[:, :, 0]
        state = _State(
            ids=tf.zeros(tf.stack([batch, 0]), tf.int32),
            sums=tf.zeros([batch]),
            # There is nothing to write about an empty source.
            done=given.empty,
            prefix=prefix,
            min_length=limits.min_length,
            max_length=limits.max_length,
            numbers=numbers,
            # The output layer's weights are the same for every step.
            fixed={name: part for name, part in fixed.items() if name != "output"},
            cache=cache,
        )
        return self._through_prompts(state, tf.reduce_min(tf.cast(prompt_lengths(prefix), tf.int32)))

    def _through_prompts(self, state: _State, count: Any) -> _State:
        """Advances `count` positions."""
        flat = tf.nest.flatten(state)
        # What is kept for each position grows; TensorFlow is told so.
        shapes = [tf.TensorShape([None, *([None] * (len(part.shape) - 1))]) for part in flat]

        def body(index: Any, *parts: Any) -> Any:
            return index + 1, *tf.nest.flatten(self.advance(_with_shapes(state, parts)))

        _, *flat = tf.while_loop(
            lambda index, *parts: index < count,
            body,
            (tf.constant(0), *flat),
            shape_invariants=(tf.TensorShape([]), *shapes),
        )
        return _with_shapes(state, flat)

    def advance(self, state: _State) -> _State:
        index = tf.shape(state.ids)[1]
        cache = widened(state.cache, index + 1)
        batch = tf.shape(state.done)[0]
        visible = tf.ones(tf.stack([batch, 1, index + 1]), tf.bool)
        fixed = {**state.fixed, "output": self.model.output_layer.columns()}
        begun = tf.concat([tf.fill(tf.stack([batch, 1]), BOS), state.ids], axis=1)
        logits, cache, _ = self._step(state)(begun[:, -1:], index, visible, fixed, cache)
        limits = Limits(state.min_length, state.max_length, tf.reduce_max(state.max_length), self.begun)
        # Constraints look at one position more than is written.
        ids = tf.expand_dims(tf.pad(state.ids, [[0, 0], [0, 1]], constant_values=PAD), 1)
        place = tf.minimum(index, tf.maximum(tf.shape(state.numbers)[1] - 1, 0))
        numbers = state.numbers[:, place : place + 1]
        tokens, log_probs = next_tokens(logits, ids, index, limits, self.spec, state.prefix, numbers)
        tokens, log_probs = tf.where(state.done, PAD, tokens[:, 0]), log_probs[:, 0]
        return state._replace(
            ids=tf.concat([state.ids, tf.expand_dims(tokens, 1)], axis=1),
            sums=state.sums + tf.where(state.done, 0.0, log_probs),
            done=tf.logical_or(state.done, tf.equal(tokens, EOS)),
            cache=cache,
        )

    def _step(self, state: _State) -> StepFunction:
        step: StepFunction = self.model.step
        if self.suppression is not None:
            step = self.suppression.step(step, prompt_lengths(state.prefix))
        return step if self.stops is None else self.stops.step(step, prompt_lengths(state.prefix))

    def written(self, state: _State) -> Written:
        count = tf.reduce_sum(tf.cast(tf.not_equal(state.ids, PAD), tf.int32), axis=1)
        scores = state.sums
        if not self.spec.sample:
            scores /= length_penalty(tf.maximum(count, 1), self.spec)
        is_cut = tf.logical_and(state.done, count >= state.max_length)
        return Written(state.ids, prompt_lengths(state.prefix), state.done, state.sums, scores, is_cut)


def _with_shapes(like: Any, parts: Any) -> Any:
    """Flat tensors as the structure of `like`, with its static widths. Other sizes may have grown."""
    for part, old in zip(parts, tf.nest.flatten(like), strict=True):
        if len(old.shape) > 2:
            part.set_shape([None] * (len(old.shape) - 1) + [old.shape[-1]])
    return tf.nest.pack_sequence_as(like, parts)
