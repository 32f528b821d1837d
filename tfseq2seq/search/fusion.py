"""External scorers inside a search: shallow fusion of language models and phrases, and joint CTC-attention scores.

A scorer has a state for each hypothesis, which is any structure of tensors [B, K, ...], and three functions:

    start(batch, beam)          the initial states
    scores(states)              [B, K, V], the score of each next token; that of <eos> is for the end of the text
    advance(states, tokens)     the states after tokens [B, K]

The scores are multiplied by the weight of the scorer. They count in the ranking immediately, at the step that adds the
token. A hypothesis that the model alone would have pruned can therefore stay in the beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.prefixes import log_add
from tfseq2seq.spec import BLANK, BOS, EOS


class Scorer(Protocol):
    """The interface of external scorers, see the module docstring."""

    def start(self, batch: Any, beam: int) -> Any: ...

    def scores(self, states: Any) -> tf.Tensor: ...

    def advance(self, states: Any, tokens: tf.Tensor) -> Any: ...


class Fusion:
    """A weighted sum of external scorers (shallow fusion).

    Args:
        scorers: pairs of a scorer and its weight. Scorers with weight 0 are ignored.
    """

    def __init__(self, scorers: Sequence[tuple[Scorer, float]] = ()):
        self.scorers = [(scorer, weight) for scorer, weight in scorers if weight]

    def __bool__(self) -> bool:
        return bool(self.scorers)

    def start(self, batch: Any, beam: int) -> list[Any]:
        return [scorer.start(batch, beam) for scorer, _ in self.scorers]

    def scores(self, states: Sequence[Any]) -> tf.Tensor:
        """Returns the weighted sum of scores, [B, K, V] float32. Needs at least one scorer."""
        return tf.add_n([weight * scorer.scores(state) for (scorer, weight), state in zip(self.scorers, states)])

    def moved(self, states: Sequence[Any], parents: tf.Tensor, tokens: tf.Tensor, longer: Any = None) -> list[Any]:
        """Returns the states of the hypotheses at indices `parents` [B, K], advanced by `tokens` [B, K].

        With `longer` [B, K] bool, only hypotheses where it is true are advanced.
        """
        old = gathered(states, parents)
        new = [scorer.advance(state, tokens) for (scorer, _), state in zip(self.scorers, old)]
        if longer is None:
            return new

        def chosen(after: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
            inner = [1] * (after.shape.rank - 2)
            return tf.where(tf.reshape(longer, tf.concat([tf.shape(longer), inner], axis=0)), after, before)

        return tf.nest.map_structure(chosen, new, old)


class _Pending(NamedTuple):
    """Candidates for the next token, and the CTC states after each of them."""

    tokens: tf.Tensor  # [B, K, C]
    token_sums: tf.Tensor  # [B, K, C, F]
    blank_sums: tf.Tensor  # [B, K, C, F]
    prefix: tf.Tensor  # [B, K, C]


class JointScorer:
    """The scores that a beam search over tokens adds to the log_probs of the model.

    With a CTC output of weight w, the score of a hypothesis is (1 - w) times its log-probability by the attention
    decoder, plus w times the CTC log-probability that a transcript begins with it (Watanabe et al. 2017, Hori et al.
    2017). The CTC part is computed for the `candidates` likeliest next tokens by attention and external scorers, and
    for <eos>. Other tokens are not considered.

    Args:
        fusion: external scorers.
        ctc: [B, F, V] CTC logits, with probability 1 for the blank at padded positions; or None.
        ctc_weight: w.
        candidates: see above.
    """

    def __init__(self, fusion: Fusion, ctc: Any = None, ctc_weight: float = 0.0, candidates: int = 16):
        self.fusion, self.weight = fusion, ctc_weight if ctc is not None else 0.0
        if self.weight:
            self.log_probs = tf.nn.log_softmax(tf.cast(ctc, tf.float32))
            self.candidates = min(candidates, ctc.shape[2])
            self.by_token = tf.transpose(self.log_probs, [0, 2, 1])

    def start(self, batch: Any, beam: int) -> dict[str, Any]:
        states: dict[str, Any] = {"fusion": self.fusion.start(batch, beam)}
        if self.weight:
            blanks = tf.cumsum(self.by_token[:, BLANK], axis=1)
            blanks = tf.repeat(tf.expand_dims(blanks, 1), beam, axis=1)
            zeros = tf.zeros(tf.stack([batch, beam]))
            states["ctc"] = {
                "token_sums": tf.fill(tf.shape(blanks), FORBIDDEN),
                "blank_sums": blanks,
                "prefix": zeros,
                "last": tf.fill(tf.shape(zeros), BOS),
            }
        return states

    def ranked(self, log_probs: Any, states: dict[str, Any]) -> tuple[tf.Tensor, Any]:
        """Returns the scores [B, K, V] that rank the next tokens, and the pending CTC states, which `moved` needs.

        Args:
            log_probs: [B, K, V], of the next tokens by the model.
            states: the states of the hypotheses.
        """
        total = (1.0 - self.weight) * log_probs
        if self.fusion:
            total += self.fusion.scores(states["fusion"])
        if not self.weight:
            return total, []
        size = log_probs.shape[2]
        ctc_states = states["ctc"]
        # <eos> is always a candidate, in addition to the others, because every hypothesis must be able to end.
        without_eos = tf.one_hot(EOS, size, FORBIDDEN, 0.0)
        _, tokens = tf.math.top_k(total + without_eos, min(self.candidates, size - 1))
        pending = self._extended(ctc_states, tokens)
        ended = log_add(ctc_states["token_sums"][..., -1], ctc_states["blank_sums"][..., -1])
        gains = tf.concat([pending.prefix, tf.expand_dims(ended, 2)], axis=2) - tf.expand_dims(ctc_states["prefix"], 2)
        indices = tf.concat([tokens, tf.fill(tf.shape(tokens[..., :1]), EOS)], axis=2)
        values = tf.gather(total, indices, batch_dims=2) + self.weight * gains
        return _scattered(values, indices, size), pending

    def moved(self, states: dict[str, Any], pending: Any, parents: tf.Tensor, tokens: tf.Tensor) -> dict[str, Any]:
        """Returns the states of the hypotheses at indices `parents` [B, K] after `tokens` [B, K]."""
        after: dict[str, Any] = {"fusion": self.fusion.moved(states["fusion"], parents, tokens)}
        if self.weight:
            reached = _Pending(*gathered(tuple(pending), parents))
            index = tf.argmax(tf.equal(reached.tokens, tf.expand_dims(tokens, 2)), axis=2, output_type=tf.int32)
            after["ctc"] = {
                "token_sums": tf.gather(reached.token_sums, index, batch_dims=2),
                "blank_sums": tf.gather(reached.blank_sums, index, batch_dims=2),
                "prefix": tf.gather(reached.prefix, index, batch_dims=2),
                "last": tokens,
            }
        return after

    def _extended(self, ctc_states: dict[str, Any], tokens: Any) -> _Pending:
        """Returns CTC sums over the alignments of hypotheses extended by each of the tokens [B, K, C].

        See Hori et al. 2017, algorithm 2.
        """
        beam, count = tokens.shape[1], tokens.shape[2]
        flat = tf.reshape(tokens, tf.stack([-1, beam * count]))
        token_log_probs = tf.gather(self.by_token, flat, batch_dims=1)
        token_log_probs = tf.reshape(token_log_probs, tf.stack([-1, beam, count, tf.shape(token_log_probs)[2]]))
        # TFLite does not support new axes in slices of tensors of unknown sizes, so this uses expand_dims.
        blank = tf.expand_dims(self.by_token[:, BLANK : BLANK + 1], 1)
        last = ctc_states["last"]
        total_sums = log_add(ctc_states["token_sums"], ctc_states["blank_sums"])
        # Between two equal tokens there must be a blank.
        same_token = tf.expand_dims(tf.equal(tokens, tf.expand_dims(last, 2)), 3)
        before = tf.where(same_token, tf.expand_dims(ctc_states["blank_sums"], 2), tf.expand_dims(total_sums, 2))
        start_sums = tf.where(tf.equal(last, BOS), 0.0, FORBIDDEN)
        start_sums = tf.expand_dims(tf.expand_dims(start_sums, 2), 3)
        start_sums = tf.broadcast_to(start_sums, tf.shape(before[..., :1]))
        arriving = tf.concat([start_sums, before[..., :-1]], axis=3) + token_log_probs
        token_sums = log_recurrence(token_log_probs, arriving)
        shifted = tf.concat([tf.fill(tf.shape(start_sums), FORBIDDEN), token_sums[..., :-1]], axis=3)
        blank = tf.broadcast_to(blank, tf.shape(shifted))
        return _Pending(
            tokens, token_sums, log_recurrence(blank, shifted + blank), tf.reduce_logsumexp(arriving, axis=3)
        )


def log_recurrence(factors: Any, terms: Any) -> tf.Tensor:
    """Computes y[t] = log(exp(y[t - 1] + factors[t]) + exp(terms[t])) along the last axis, with y[-1] = log 0.

    All t are computed in parallel, in a logarithmic number of passes (Hillis & Steele 1986).
    """
    length = tf.shape(terms)[-1]
    leading = [[0, 0]] * (terms.shape.rank - 1)

    def body(shift: Any, factors: Any, sums: Any) -> Any:
        def earlier(x: Any, fill: float) -> Any:
            return tf.pad(x[..., : length - shift], [*leading, [shift, 0]], constant_values=fill)

        sums = log_add(sums, earlier(sums, FORBIDDEN) + factors)
        return shift * 2, tf.maximum(factors + earlier(factors, 0.0), 2 * FORBIDDEN), sums

    variables = (tf.constant(1), factors, terms)
    _, _, sums = tf.while_loop(lambda shift, *_: shift < length, body, variables)
    return tf.maximum(sums, FORBIDDEN)


def gathered(states: Any, parents: tf.Tensor) -> Any:
    """Gathers the entries at indices `parents` [B, K] from every tensor [B, K, ...] in a structure."""
    return tf.nest.map_structure(lambda part: tf.gather(part, parents, batch_dims=1), states)


def _scattered(values: Any, indices: Any, size: int) -> tf.Tensor:
    """Returns [B, K, V] with `values` [B, K, C] at `indices` [B, K, C] and FORBIDDEN elsewhere."""
    beam, count = indices.shape[1], indices.shape[2]
    rows = tf.shape(indices)[0] * beam
    flat_indices = tf.reshape(indices, tf.stack([rows, count])) + tf.expand_dims(tf.range(rows) * size, 1)
    flat = tf.tensor_scatter_nd_update(
        tf.fill([rows * size], FORBIDDEN), tf.reshape(flat_indices, [-1, 1]), tf.reshape(values, [-1])
    )
    return tf.reshape(flat, tf.stack([-1, beam, size]))
