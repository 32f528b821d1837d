"""Other opinions inside a search: language models and wanted words (shallow fusion), and a CTC output beside attention.

A scorer has a state for each hypothesis, any structure of tensors [B, K, ...], and three functions:

    start(batch, beam)          states
    scores(states)              [B, K, V], what each next token adds, <eos> for the end of the text included
    advance(states, tokens)     the states after tokens [B, K]

What it adds is multiplied by its weight and counts in ranking from the step on in which it comes, so that a word the
model alone would have dropped can survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.prefixes import log_add
from tfseq2seq.spec import BLANK, BOS, EOS


class Scorer(Protocol):
    """See above."""

    def start(self, batch: Any, beam: int) -> Any: ...

    def scores(self, states: Any) -> tf.Tensor: ...

    def advance(self, states: Any, tokens: tf.Tensor) -> Any: ...


class Fusion:
    """Several scorers as one.

    Args:
        scorers: each with its weight; those of weight 0 are left out.
    """

    def __init__(self, scorers: Sequence[tuple[Scorer, float]] = ()):
        self.scorers = [(scorer, weight) for scorer, weight in scorers if weight]

    def __bool__(self) -> bool:
        return bool(self.scorers)

    def start(self, batch: Any, beam: int) -> list[Any]:
        return [scorer.start(batch, beam) for scorer, _ in self.scorers]

    def scores(self, states: Sequence[Any]) -> tf.Tensor:
        """[B, K, V] float32, weighted; there is at least one scorer."""
        return tf.add_n([weight * scorer.scores(state) for (scorer, weight), state in zip(self.scorers, states)])

    def moved(self, states: Sequence[Any], parents: tf.Tensor, tokens: tf.Tensor, longer: Any = None) -> list[Any]:
        """States of hypotheses `parents` [B, K], advanced by `tokens` [B, K], all of them or where `longer` [B, K]."""
        old = gathered(states, parents)
        new = [scorer.advance(state, tokens) for (scorer, _), state in zip(self.scorers, old)]
        if longer is None:
            return new

        def chosen(after: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
            inner = [1] * (after.shape.rank - 2)
            return tf.where(tf.reshape(longer, tf.concat([tf.shape(longer), inner], axis=0)), after, before)

        return tf.nest.map_structure(chosen, new, old)


class _Pending(NamedTuple):
    """Candidates [B, K, C] and the CTC states they lead to."""

    tokens: tf.Tensor
    token_sums: tf.Tensor  # [B, K, C, F]
    blank_sums: tf.Tensor  # [B, K, C, F]
    prefix: tf.Tensor  # [B, K, C]


class JointScorer:
    """What a beam search over tokens ranks by beside the model's own log-probabilities.

    With a CTC output of weight w a hypothesis has (1 - w) times its log-probability by attention and w times the one by
    CTC that a transcript begins with it (Watanabe et al. 2017, Hori et al. 2017). That is computed for the `candidates`
    likeliest next tokens by attention and scorers, and for <eos>; other tokens are not considered.

    Args:
        fusion: language models and the like.
        ctc: [B, F, V] logits with blank for certain past the end, or None.
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
        """[B, K, V] log-probabilities of next tokens to what they are ranked by, and what `moved` needs."""
        total = (1.0 - self.weight) * log_probs
        if self.fusion:
            total += self.fusion.scores(states["fusion"])
        if not self.weight:
            return total, []
        size = log_probs.shape[2]
        held = states["ctc"]
        # <eos> has a place of its own: the hypothesis must be able to end.
        ending = tf.one_hot(EOS, size, FORBIDDEN, 0.0)
        _, tokens = tf.math.top_k(total + ending, min(self.candidates, size - 1))
        pending = self._extended(held, tokens)
        ends = log_add(held["token_sums"][..., -1], held["blank_sums"][..., -1])
        gains = tf.concat([pending.prefix, tf.expand_dims(ends, 2)], axis=2) - tf.expand_dims(held["prefix"], 2)
        indices = tf.concat([tokens, tf.fill(tf.shape(tokens[..., :1]), EOS)], axis=2)
        values = tf.gather(total, indices, batch_dims=2) + self.weight * gains
        return _scattered(values, indices, size), pending

    def moved(self, states: dict[str, Any], pending: Any, parents: tf.Tensor, tokens: tf.Tensor) -> dict[str, Any]:
        """States of hypotheses `parents` [B, K] followed by `tokens` [B, K]."""
        after: dict[str, Any] = {"fusion": self.fusion.moved(states["fusion"], parents, tokens)}
        if self.weight:
            found = _Pending(*gathered(tuple(pending), parents))
            index = tf.argmax(tf.equal(found.tokens, tf.expand_dims(tokens, 2)), axis=2, output_type=tf.int32)
            after["ctc"] = {
                "token_sums": tf.gather(found.token_sums, index, batch_dims=2),
                "blank_sums": tf.gather(found.blank_sums, index, batch_dims=2),
                "prefix": tf.gather(found.prefix, index, batch_dims=2),
                "last": tokens,
            }
        return after

    def _extended(self, held: dict[str, Any], tokens: Any) -> _Pending:
        """CTC sums over alignments of hypotheses and one more token of [B, K, C] (Hori et al. 2017, algorithm 2)."""
        beam, count = tokens.shape[1], tokens.shape[2]
        flat = tf.reshape(tokens, tf.stack([-1, beam * count]))
        own = tf.gather(self.by_token, flat, batch_dims=1)
        own = tf.reshape(own, tf.stack([-1, beam, count, tf.shape(own)[2]]))
        # expand_dims, as TFLite slices no new axes into tensors of unknown sizes.
        blank = tf.expand_dims(self.by_token[:, BLANK : BLANK + 1], 1)
        last = held["last"]
        whole = log_add(held["token_sums"], held["blank_sums"])
        # The same token once more needs a blank between.
        again = tf.expand_dims(tf.equal(tokens, tf.expand_dims(last, 2)), 3)
        before = tf.where(again, tf.expand_dims(held["blank_sums"], 2), tf.expand_dims(whole, 2))
        begins = tf.where(tf.equal(last, BOS), 0.0, FORBIDDEN)
        begins = tf.expand_dims(tf.expand_dims(begins, 2), 3)
        begins = tf.broadcast_to(begins, tf.shape(before[..., :1]))
        arriving = tf.concat([begins, before[..., :-1]], axis=3) + own
        token_sums = log_recurrence(own, arriving)
        late = tf.concat([tf.fill(tf.shape(begins), FORBIDDEN), token_sums[..., :-1]], axis=3)
        blank = tf.broadcast_to(blank, tf.shape(late))
        return _Pending(tokens, token_sums, log_recurrence(blank, late + blank), tf.reduce_logsumexp(arriving, axis=3))


def log_recurrence(factors: Any, terms: Any) -> tf.Tensor:
    """y[t] = log(exp(y[t - 1] + factors[t]) + exp(terms[t])) along the last axis, y[-1] being log 0.

    Computed for all t at once in a logarithmic number of passes (Hillis & Steele 1986).
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
    """Of every tensor [B, K, ...] in a structure the entries `parents` [B, K]."""
    return tf.nest.map_structure(lambda part: tf.gather(part, parents, batch_dims=1), states)


def _scattered(values: Any, indices: Any, size: int) -> tf.Tensor:
    """[B, K, C] at `places` of [B, K, V], a large negative number elsewhere."""
    beam, count = indices.shape[1], indices.shape[2]
    rows = tf.shape(indices)[0] * beam
    where = tf.reshape(indices, tf.stack([rows, count])) + tf.expand_dims(tf.range(rows) * size, 1)
    flat = tf.tensor_scatter_nd_update(
        tf.fill([rows * size], FORBIDDEN), tf.reshape(where, [-1, 1]), tf.reshape(values, [-1])
    )
    return tf.reshape(flat, tf.stack([-1, beam, size]))
