"""Transducer search, synchronous in alignment length (Saon et al. 2020).

Each step every hypothesis takes one more edge of its lattice: a blank moves it to the next position, a token makes it
longer. All hypotheses have thus taken equally many, so those with the same tokens stand at the same position, and their
probabilities add up. A blank at the last position finishes a hypothesis. A beam of 1 is greedy search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion, gathered
from tfseq2seq.search.prefixes import Prefixes, empty_prefixes, grown, joined, sayable
from tfseq2seq.spec import BLANK, BOS, EOS, PAD


class _Beam(NamedTuple):
    prefixes: Prefixes
    sums: tf.Tensor  # [B, K]
    added: tf.Tensor  # [B, K]: what scorers gave
    predicted: tf.Tensor  # [B, K, J]: the prediction network's output after each prefix
    network: list[tf.Tensor]  # its states [B, K, units]
    states: list[tf.Tensor]  # of the scorers


class _Finished(NamedTuple):
    ids: tf.Tensor
    lengths: tf.Tensor
    sums: tf.Tensor
    scores: tf.Tensor


class Progress(NamedTuple):
    """Where a search stands: steps taken, hypotheses that go on, and finished ones."""

    step: tf.Tensor
    now: _Beam
    finished: _Finished


class TransducerSearch:
    """A search that can stop and go on as positions come in.

    Args:
        say: last tokens [N] and states to the prediction network's projected output [N, J] and its next states.
        join: [..., J] of positions and of predictions to logits [..., V].
        longest: most tokens of a transcript, which has no <eos>.
        beam: hypotheses kept.
        fusion: scorers whose opinion ranks hypotheses as they grow.
    """

    def __init__(
        self,
        predictor_step: Callable[[Any, list[Any]], tuple[Any, list[Any]]],
        join: Callable[[Any, Any], Any],
        longest: int,
        beam: int,
        fusion: Fusion | None = None,
    ):
        self.predictor_step, self.join, self.longest, self.beam, self.fusion = (
            predictor_step,
            join,
            longest,
            beam,
            fusion or Fusion(),
        )

    def begin(self, batch: Any, network: list[Any]) -> Progress:
        """Nothing heard; `network` are states [B * beam, units] before the first token."""
        beam = self.beam
        prefixes = empty_prefixes(batch, beam, tf.constant(self.longest))
        states = [_rows(state, beam) for state in network]
        predicted, network = _predictor_step(self.predictor_step, tf.fill(tf.shape(prefixes.last), BOS), states)
        start = tf.where(prefixes.used, 0.0, FORBIDDEN)
        first = _Beam(prefixes, start, tf.zeros_like(start), predicted, network, self.fusion.start(batch, beam))
        none = tf.fill(tf.shape(start), FORBIDDEN)
        return Progress(tf.constant(0), first, _Finished(prefixes.ids, prefixes.lengths, none, none))

    def go_on(
        self, progress: Progress, encoded: Any, frames: Any, count: int, first: Any = 0, known: Any = None
    ) -> Progress:
        """Takes steps until nothing can become better than the `count` best, or a hypothesis has come to where no more
        is known.

        Args:
            heard: [B, F, J] projected positions, from position `first` on.
            frames: [B] how many positions there are in all; more where that is not known yet.
            count: transcripts wanted.
            first: no hypothesis that goes on stands before it.
            known: where a hypothesis has come to this position, or a later one, it has to wait; None for nowhere.
        """
        fusion, length = self.fusion, tf.constant(self.longest)

        def unfinished(step: Any, now: _Beam, finished: _Finished) -> Any:
            # All that goes on together is the most that one transcript can still collect.
            reachable = tf.reduce_logsumexp(tf.where(now.prefixes.used, now.sums, FORBIDDEN), axis=1)
            open_ones = tf.reduce_any(now.prefixes.used, axis=1)
            if not fusion:
                open_ones = tf.logical_and(open_ones, reachable > finished.scores[:, count - 1])
            if known is None:
                return tf.reduce_any(open_ones)
            return tf.logical_and(tf.reduce_any(open_ones), furthest(step, now.prefixes) < known)

        def body(step: Any, now: _Beam, finished: _Finished) -> Any:
            indices = step - now.prefixes.lengths
            position = tf.gather(encoded, tf.clip_by_value(indices - first, 0, tf.shape(encoded)[1] - 1), batch_dims=1)
            log_probs = tf.nn.log_softmax(tf.cast(self.join(position, now.predicted), tf.float32))
            ends = indices >= tf.expand_dims(frames, 1) - 1
            finished = _finish(finished, now, log_probs[:, :, BLANK], ends, fusion)
            return step + 1, _next(now, log_probs, ends, length, self.predictor_step, fusion), finished

        return Progress(*tf.while_loop(unfinished, body, tuple(progress)))

    def best(self, progress: Progress, count: int) -> Hypotheses:
        """The `count` best finished transcripts."""
        scores, best = tf.math.top_k(progress.finished.scores, count)
        found = _Finished(*(tf.gather(part, best, batch_dims=1) for part in progress.finished))
        exists = scores > FORBIDDEN / 2
        ids = tf.where(tf.expand_dims(exists, 2), found.ids, PAD)
        return Hypotheses(ids, tf.where(exists, found.lengths, 0), found.sums, scores, None)


def transducer_search(
    search: TransducerSearch, encoded: Any, frames: Any, network: list[Any], count: int
) -> Hypotheses:
    """The `count` likeliest transcripts of whole utterances.

    Args:
        search: how.
        heard: [B, F, J] projected positions.
        frames: [B] how many of them are real.
        network: states [B * beam, units] before the first token.
    """
    progress = search.go_on(search.begin(tf.shape(encoded)[0], network), encoded, frames, count)
    return search.best(progress, count)


def furthest(step: Any, prefixes: Prefixes) -> Any:
    """The last position that a hypothesis of a search stands at."""
    return step - tf.reduce_min(tf.where(prefixes.used, prefixes.lengths, tf.int32.max))


def hindmost(step: Any, prefixes: Prefixes) -> Any:
    """The first position that a hypothesis of a search stands at."""
    return step - tf.reduce_max(tf.where(prefixes.used, prefixes.lengths, 0))


def _finish(finished: _Finished, now: _Beam, blank: Any, ends: Any, fusion: Fusion) -> _Finished:
    """The best finished hypotheses, with those whose blank is their last."""
    sums = now.sums + blank
    scores = sums + now.added
    if fusion:
        scores += fusion.scores(now.states)[:, :, EOS]
    scores = tf.where(tf.logical_and(ends, now.prefixes.used), scores, FORBIDDEN)
    new = _Finished(now.prefixes.ids, now.prefixes.lengths, sums, scores)
    both = _Finished(*(tf.concat([old, more], axis=1) for old, more in zip(finished, new)))
    _, best = tf.math.top_k(both.scores, now.sums.shape[1])
    return _Finished(*(tf.gather(part, best, batch_dims=1) for part in both))


def _next(now: _Beam, log_probs: Any, ends: Any, length: Any, predictor_step: Any, fusion: Fusion) -> _Beam:
    prefixes = now.prefixes
    beam, size = log_probs.shape[1], log_probs.shape[2]
    waited = tf.where(tf.logical_or(ends, tf.logical_not(prefixes.used)), FORBIDDEN, now.sums + log_probs[:, :, BLANK])
    spoken = tf.expand_dims(now.sums, 2) + log_probs + sayable(size)
    going_on = tf.logical_and(prefixes.used, prefixes.lengths < length)
    spoken = tf.where(tf.expand_dims(going_on, 2), spoken, FORBIDDEN)
    waited, spoken = joined(waited, spoken, prefixes)

    opinions = tf.expand_dims(now.added, 2)
    if fusion:
        opinions = opinions + fusion.scores(now.states)
    saying = tf.reshape(spoken + opinions, tf.stack([-1, beam * size]))
    best, indices = tf.math.top_k(tf.concat([waited + now.added, saying], axis=1), beam)
    longer = indices >= beam
    parents = tf.where(longer, (indices - beam) // size, indices)
    tokens = tf.where(longer, (indices - beam) % size, PAD)
    flat = tf.concat([waited, tf.reshape(spoken, tf.stack([-1, beam * size]))], axis=1)
    sums = tf.gather(flat, indices, batch_dims=1)
    network = gathered(now.network, parents)
    predicted, new_states = _predictor_step(predictor_step, tokens, network)
    extended = tf.expand_dims(longer, 2)
    return _Beam(
        grown(prefixes, parents, tokens, longer, best > FORBIDDEN / 2),
        sums,
        best - sums if fusion else now.added,
        tf.where(extended, predicted, tf.gather(now.predicted, parents, batch_dims=1)),
        [tf.where(extended, new, old) for new, old in zip(new_states, network)],
        fusion.moved(now.states, parents, tokens, longer),
    )


def _predictor_step(predictor_step: Any, tokens: Any, network: list[Any]) -> tuple[Any, list[Any]]:
    """`say` over [B, K]."""
    beam = tokens.shape[1]
    predicted, new_states = predictor_step(
        tf.reshape(tokens, [-1]), [tf.reshape(state, [-1, state.shape[2]]) for state in network]
    )
    return _rows(predicted, beam), [_rows(state, beam) for state in new_states]


def _rows(flat: Any, beam: int) -> Any:
    return tf.reshape(flat, tf.stack([-1, beam, flat.shape[-1]]))
