"""Transducer search, synchronous in alignment length (Saon et al. 2020).

At each step every hypothesis takes one edge of its lattice: a blank moves it to the next position, a token extends it.
All hypotheses have taken the same number of edges, so hypotheses with the same tokens are at the same position, and
their probabilities are added. A blank at the last position finishes a hypothesis. A beam of 1 is greedy search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.fusion import Fusion, gathered
from tfseq2seq.search.prefixes import Prefixes, allowed_tokens, empty_prefixes, extended_prefixes, merged
from tfseq2seq.spec import BLANK, BOS, EOS, PAD


class _Beam(NamedTuple):
    """The live hypotheses."""

    prefixes: Prefixes
    sums: tf.Tensor  # [B, K]: log-probabilities
    added: tf.Tensor  # [B, K]: the sum of the external scores
    predicted: tf.Tensor  # [B, K, J]: the prediction network's projected output after each prefix
    network: list[tf.Tensor]  # the prediction network's states [B, K, units]
    states: list[tf.Tensor]  # the states of the external scorers


class _Finished(NamedTuple):
    """The finished hypotheses, best first."""

    ids: tf.Tensor  # [B, K, L]
    lengths: tf.Tensor  # [B, K]
    sums: tf.Tensor  # [B, K]: log-probabilities
    scores: tf.Tensor  # [B, K]: log-probabilities with external scores


class Progress(NamedTuple):
    """The state of a search: the number of steps taken, the live hypotheses and the finished hypotheses."""

    step: tf.Tensor
    live: _Beam  # the live hypotheses
    finished: _Finished


class TransducerSearch:
    """A transducer search that can be interrupted and continued when more encoder positions are available.

    Args:
        predictor_step: maps last tokens [N] and states to the prediction network's projected output [N, J] and its
            new states.
        join: the joint network. It maps encoder projections [..., J] and predictor projections [..., J] to logits
            [..., V].
        max_length: the maximum number of tokens of a transcript, which has no <eos>.
        beam: the number of hypotheses kept, K.
        fusion: external scorers for shallow fusion. Their scores rank hypotheses from the first token on.
    """

    def __init__(
        self,
        predictor_step: Callable[[Any, list[Any]], tuple[Any, list[Any]]],
        join: Callable[[Any, Any], Any],
        max_length: int,
        beam: int,
        fusion: Fusion | None = None,
    ):
        self.predictor_step, self.join, self.max_length, self.beam, self.fusion = (
            predictor_step,
            join,
            max_length,
            beam,
            fusion or Fusion(),
        )

    def begin(self, batch: Any, network: list[Any]) -> Progress:
        """Returns the state before the first position.

        Args:
            batch: the number of examples, B.
            network: the prediction network's states [B * beam, units] before the first token.
        """
        beam = self.beam
        prefixes = empty_prefixes(batch, beam, tf.constant(self.max_length))
        states = [_rows(state, beam) for state in network]
        predicted, network = _predictor_step(self.predictor_step, tf.fill(tf.shape(prefixes.last), BOS), states)
        start = tf.where(prefixes.used, 0.0, FORBIDDEN)
        first = _Beam(prefixes, start, tf.zeros_like(start), predicted, network, self.fusion.start(batch, beam))
        none = tf.fill(tf.shape(start), FORBIDDEN)
        return Progress(tf.constant(0), first, _Finished(prefixes.ids, prefixes.lengths, none, none))

    def advance(
        self, progress: Progress, encoded: Any, frames: Any, count: int, first: Any = 0, known: Any = None
    ) -> Progress:
        """Takes steps until no live hypothesis can enter the `count` best transcripts, or one needs a position that is
        not known yet.

        Args:
            progress: the state of the search.
            encoded: [B, F, J] encoder projections, beginning at position `first`.
            frames: [B], the total number of positions. If it is not known yet, a larger number.
            count: the number of transcripts that will be returned.
            first: the index of the first position in `encoded`. No live hypothesis is before it.
            known: the search pauses when a hypothesis reaches this position. With None it never pauses.
        """
        fusion, length = self.fusion, tf.constant(self.max_length)

        def unfinished(step: Any, live: _Beam, finished: _Finished) -> Any:
            # The probability of a transcript cannot exceed the sum over all live hypotheses.
            reachable = tf.reduce_logsumexp(tf.where(live.prefixes.used, live.sums, FORBIDDEN), axis=1)
            active = tf.reduce_any(live.prefixes.used, axis=1)
            if not fusion:
                active = tf.logical_and(active, reachable > finished.scores[:, count - 1])
            if known is None:
                return tf.reduce_any(active)
            return tf.logical_and(tf.reduce_any(active), latest_position(step, live.prefixes) < known)

        def body(step: Any, live: _Beam, finished: _Finished) -> Any:
            indices = step - live.prefixes.lengths
            position = tf.gather(encoded, tf.clip_by_value(indices - first, 0, tf.shape(encoded)[1] - 1), batch_dims=1)
            log_probs = tf.nn.log_softmax(tf.cast(self.join(position, live.predicted), tf.float32))
            ends = indices >= tf.expand_dims(frames, 1) - 1
            finished = _finish(finished, live, log_probs[:, :, BLANK], ends, fusion)
            return step + 1, _next(live, log_probs, ends, length, self.predictor_step, fusion), finished

        return Progress(*tf.while_loop(unfinished, body, tuple(progress)))

    def best(self, progress: Progress, count: int) -> Hypotheses:
        """Returns the `count` best finished transcripts."""
        scores, best = tf.math.top_k(progress.finished.scores, count)
        found = _Finished(*(tf.gather(part, best, batch_dims=1) for part in progress.finished))
        exists = scores > FORBIDDEN / 2
        ids = tf.where(tf.expand_dims(exists, 2), found.ids, PAD)
        return Hypotheses(ids, tf.where(exists, found.lengths, 0), found.sums, scores, None)


def transducer_search(
    search: TransducerSearch, encoded: Any, frames: Any, network: list[Any], count: int
) -> Hypotheses:
    """Returns the `count` best transcripts of complete utterances.

    Args:
        search: the search to run.
        encoded: [B, F, J] encoder projections.
        frames: [B], the number of positions without padding.
        network: the prediction network's states [B * beam, units] before the first token.
        count: the number of transcripts to return.
    """
    progress = search.advance(search.begin(tf.shape(encoded)[0], network), encoded, frames, count)
    return search.best(progress, count)


def latest_position(step: Any, prefixes: Prefixes) -> Any:
    """Returns the position of the hypothesis that is latest_position ahead in the encoder positions."""
    return step - tf.reduce_min(tf.where(prefixes.used, prefixes.lengths, tf.int32.max))


def earliest_position(step: Any, prefixes: Prefixes) -> Any:
    """Returns the position of the hypothesis that is latest_position behind in the encoder positions."""
    return step - tf.reduce_max(tf.where(prefixes.used, prefixes.lengths, 0))


def _finish(finished: _Finished, live: _Beam, blank: Any, ends: Any, fusion: Fusion) -> _Finished:
    """Adds the hypotheses that end with a blank at the last position (`ends`) to the finished ones. Keeps the best."""
    sums = live.sums + blank
    scores = sums + live.added
    if fusion:
        scores += fusion.scores(live.states)[:, :, EOS]
    scores = tf.where(tf.logical_and(ends, live.prefixes.used), scores, FORBIDDEN)
    new = _Finished(live.prefixes.ids, live.prefixes.lengths, sums, scores)
    combined = _Finished(*(tf.concat([old, more], axis=1) for old, more in zip(finished, new)))
    _, best = tf.math.top_k(combined.scores, live.sums.shape[1])
    return _Finished(*(tf.gather(part, best, batch_dims=1) for part in combined))


def _next(live: _Beam, log_probs: Any, ends: Any, length: Any, predictor_step: Any, fusion: Fusion) -> _Beam:
    """Returns the live hypotheses after one more edge, given log_probs [B, K, V] of the next labels."""
    prefixes = live.prefixes
    beam, size = log_probs.shape[1], log_probs.shape[2]
    unchanged = tf.where(
        tf.logical_or(ends, tf.logical_not(prefixes.used)), FORBIDDEN, live.sums + log_probs[:, :, BLANK]
    )
    extended = tf.expand_dims(live.sums, 2) + log_probs + allowed_tokens(size)
    extendable = tf.logical_and(prefixes.used, prefixes.lengths < length)
    extended = tf.where(tf.expand_dims(extendable, 2), extended, FORBIDDEN)
    unchanged, extended = merged(unchanged, extended, prefixes)

    external_scores = tf.expand_dims(live.added, 2)
    if fusion:
        external_scores = external_scores + fusion.scores(live.states)
    extended_scores = tf.reshape(extended + external_scores, tf.stack([-1, beam * size]))
    best, indices = tf.math.top_k(tf.concat([unchanged + live.added, extended_scores], axis=1), beam)
    longer = indices >= beam
    parents = tf.where(longer, (indices - beam) // size, indices)
    tokens = tf.where(longer, (indices - beam) % size, PAD)
    flat = tf.concat([unchanged, tf.reshape(extended, tf.stack([-1, beam * size]))], axis=1)
    sums = tf.gather(flat, indices, batch_dims=1)
    network = gathered(live.network, parents)
    predicted, new_states = _predictor_step(predictor_step, tokens, network)
    is_extended = tf.expand_dims(longer, 2)
    return _Beam(
        extended_prefixes(prefixes, parents, tokens, longer, best > FORBIDDEN / 2),
        sums,
        best - sums if fusion else live.added,
        tf.where(is_extended, predicted, tf.gather(live.predicted, parents, batch_dims=1)),
        [tf.where(is_extended, new, old) for new, old in zip(new_states, network)],
        fusion.moved(live.states, parents, tokens, longer),
    )


def _predictor_step(predictor_step: Any, tokens: Any, network: list[Any]) -> tuple[Any, list[Any]]:
    """Applies `predictor_step` to tokens [B, K] and states [B, K, units]."""
    beam = tokens.shape[1]
    predicted, new_states = predictor_step(
        tf.reshape(tokens, [-1]), [tf.reshape(state, [-1, state.shape[2]]) for state in network]
    )
    return _rows(predicted, beam), [_rows(state, beam) for state in new_states]


def _rows(flat: Any, beam: int) -> Any:
    return tf.reshape(flat, tf.stack([-1, beam, flat.shape[-1]]))
