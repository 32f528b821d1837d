"""A recurrent language model as a scorer inside a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfseq2seq.spec import BOS

Step = Callable[[Any, list[Any]], tuple[Any, list[Any]]]


class NeuralScorer:
    """Log-probabilities of each next token by a network that reads one after the other.

    The state holds the network's own and what it says of the next token, so that a search that asks again at every
    position of the audio, as CTC's does, finds it there.

    Args:
        begin: the network's states [N, units] before the first token, given N.
        step: last tokens [N] and states to logits [N, V] and the next states.
    """

    def __init__(self, begin: Callable[[Any], list[Any]], step: Step):
        self.begin, self.step = begin, step

    def start(self, batch: Any, beam: int) -> dict[str, Any]:
        rows = batch * beam
        return self._moved(tf.fill([rows], BOS), self.begin(rows), beam)

    def scores(self, states: Any) -> tf.Tensor:
        return states["log_probs"]

    def advance(self, states: Any, tokens: Any) -> dict[str, Any]:
        flat = [tf.reshape(state, [-1, state.shape[2]]) for state in states["network"]]
        return self._moved(tf.reshape(tokens, [-1]), flat, tokens.shape[1])

    def _moved(self, tokens: Any, network: list[Any], beam: int) -> dict[str, Any]:
        logits, new_states = self.step(tokens, network)
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        parts = {"network": new_states, "log_probs": log_probs}
        return tf.nest.map_structure(lambda part: tf.reshape(part, tf.stack([-1, beam, part.shape[1]])), parts)
