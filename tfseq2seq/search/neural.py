"""A recurrent language model as an external scorer of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfseq2seq.spec import BOS

Step = Callable[[Any, list[Any]], tuple[Any, list[Any]]]


class NeuralScorer:
    """A scorer that gives log_probs of each next token by a recurrent network.

    Its states have the network's states and the log_probs of the next token. A CTC search asks for the scores at every
    encoder position and does not need to run the network again.

    Args:
        begin: maps N to the network's states [N, units] before the first token.
        step: maps last tokens [N] and states to logits [N, V] and the new states.
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
