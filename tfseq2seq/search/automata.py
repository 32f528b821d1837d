"""External scorers that are finite automata with failure arcs: n-gram models, phrases and a bonus for each token.

A state has arcs for some tokens. For any other token the automaton first follows the failure arc to a state with a
shorter history, at a cost, and looks there. Back-off models (Katz 1987) and string matching (Aho & Corasick 1975) do
the same. State 0 is the last one and has arcs for all tokens. All arcs are in one sorted array, so memory grows with
the number of arcs and not with the number of states times the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.spec import EOS


@dataclass
class Arcs:
    """The arcs of an automaton under construction.

    Attributes:
        scores: [V], the score of every token in state 0.
        targets: [V], the next state after every token in state 0.
        arcs: maps (state, token) to (score, next state), for states above 0.
        failures: maps each state above 0 to the state in which to look up other tokens, and the score of going there.
        start: the state in which hypotheses begin.
    """

    scores: np.ndarray
    targets: np.ndarray
    arcs: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)
    failures: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    start: int = 0


class Automaton(tf.Module):
    """A `Scorer` of `search/fusion.py` that runs an automaton. Its states are int32 [B, K].

    Exported models store its arrays.

    Args:
        arcs: the arcs of the automaton.
        name: the name of the module, which prefixes the names of its variables.
    """

    def __init__(self, arcs: Arcs, name: str):
        super().__init__(name=name)
        size, count = len(arcs.scores), max(arcs.failures, default=0) + 1
        self.size, self.first = size, arcs.start
        ordered = sorted(arcs.arcs)
        keys = np.array([state * size + token for state, token in ordered], "int64")
        suffixes, costs = np.zeros(count, "int32"), np.zeros(count, "float32")
        for state, (suffix, cost) in arcs.failures.items():
            suffixes[state], costs[state] = suffix, cost
        self.levels = _longest_chain(suffixes)
        # An unused arc at the end: gather and searchsorted need a non-empty array.
        self._keys = _kept(np.append(keys, np.iinfo("int64").max))
        self._values = _kept(np.array([*(arcs.arcs[key][0] for key in ordered), 0.0], "float32"))
        self._next = _kept(np.array([*(arcs.arcs[key][1] for key in ordered), 0], "int32"))
        self._begins = _kept(np.searchsorted(keys, np.arange(count + 1, dtype="int64") * size).astype("int32"))
        self._suffixes, self._costs = _kept(suffixes), _kept(costs)
        self._scores = _kept(np.asarray(arcs.scores, "float32"))
        self._targets = _kept(np.asarray(arcs.targets, "int32"))

    def start(self, batch: Any, beam: int) -> tf.Tensor:
        return tf.fill(tf.stack([batch, beam]), self.first)

    def scores(self, states: Any) -> tf.Tensor:
        """Returns the scores [B, K, V] of all next tokens."""
        shape = tf.shape(states)
        chain = self._chain(tf.reshape(states, [-1]))
        rows = tf.shape(chain[0])[0]
        total = tf.broadcast_to(self._scores, tf.stack([rows, self.size]))
        for level in reversed(chain):
            total = self._with_arcs(total + tf.expand_dims(tf.gather(self._costs, level), 1), level)
        return tf.reshape(total, tf.stack([shape[0], shape[1], self.size]))

    def advance(self, states: Any, tokens: Any) -> tf.Tensor:
        shape = tf.shape(states)
        token = tf.reshape(tokens, [-1])
        next_states = tf.gather(self._targets, token)
        for level in reversed(self._chain(tf.reshape(states, [-1]))):
            key = tf.cast(level, tf.int64) * self.size + tf.cast(token, tf.int64)
            index = tf.searchsorted(self._keys, key, out_type=tf.int32)
            found = tf.logical_and(tf.equal(tf.gather(self._keys, index), key), level > 0)
            next_states = tf.where(found, tf.gather(self._next, index), next_states)
        return tf.reshape(next_states, shape)

    def _chain(self, states: Any) -> list[tf.Tensor]:
        """Returns states [R], the states of their failure arcs, and so on. State 0 stays 0."""
        chain = [states]
        for _ in range(self.levels - 1):
            chain.append(tf.gather(self._suffixes, chain[-1]))
        return chain[: self.levels]

    def _with_arcs(self, total: Any, states: Any) -> tf.Tensor:
        """Returns `total` [R, V] with the entries of the arcs of states [R] replaced by the arcs' scores."""
        begins = tf.gather(self._begins, states)
        counts = tf.gather(self._begins, states + 1) - begins
        rows = tf.repeat(tf.range(tf.shape(states)[0]), counts)
        within = tf.range(tf.shape(rows)[0]) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
        indices = tf.gather(begins, rows) + within
        tokens = tf.cast(tf.gather(self._keys, indices) % self.size, tf.int32)
        return tf.tensor_scatter_nd_update(total, tf.stack([rows, tokens], axis=1), tf.gather(self._values, indices))


def token_bonus(size: int) -> Automaton:
    """Returns a scorer that gives 1 for every token except <eos>. It compensates for the short outputs that a language
    model favors.
    """
    scores = np.ones(size)
    scores[EOS] = 0.0
    return Automaton(Arcs(scores, np.zeros(size)), name="token_bonus")


def _longest_chain(suffixes: Sequence[int] | np.ndarray) -> int:
    """Returns the number of states above 0 on the longest chain of failure arcs, at least 1."""
    states, longest = np.arange(len(suffixes)), 0
    while states.any():
        states, longest = np.asarray(suffixes)[states], longest + 1
    return max(longest, 1)


def _kept(values: np.ndarray) -> tf.Variable:
    # A variable is stored once, outside the graph. A constant would be in the graph, whose size is limited.
    return tf.Variable(values, trainable=False, dtype=values.dtype)
