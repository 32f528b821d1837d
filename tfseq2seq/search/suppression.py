"""Tokens that a search does not write, at all or at the begin of an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.search.beam import StepFunction
from tfseq2seq.search.constraints import FORBIDDEN


class Suppression:
    """Suppressed tokens of a vocabulary. The other tokens share their probability.

    Args:
        never: the ids of tokens that are not written.
        at_begin: the ids of tokens that are not the first one after a prompt.
        size: the size of the vocabulary.
    """

    def __init__(self, never: Sequence[int], at_begin: Sequence[int], size: int):
        self.never, self.at_begin = _bias(never, size), _bias([*never, *at_begin], size)
        self.has_begin = len(at_begin) > 0

    def step(self, step: StepFunction, prompt_lengths: Any = None) -> StepFunction:
        """Wraps a step function, so that it gives suppressed tokens no probability.

        Args:
            step: the step function.
            prompt_lengths: [B], the number of first tokens that are a prompt, in which no token is suppressed.
        """
        begin = 0 if prompt_lengths is None else tf.reshape(prompt_lengths, [-1, 1, 1])

        def suppressing(ids: Any, index: Any, visible: Any, fixed: Any, cache: Any) -> tuple[Any, Any, Any]:
            logits, cache, attention = step(ids, index, visible, fixed, cache)
            bias: Any = self.never
            if self.has_begin:
                bias = tf.where(tf.equal(index, begin), self.at_begin, bias)
            if prompt_lengths is not None:
                bias = tf.where(index < begin, 0.0, bias)
            return tf.cast(logits, tf.float32) + bias, cache, attention

        return suppressing


def _bias(ids: Sequence[int], size: int) -> np.ndarray:
    bias = np.zeros(size, "float32")
    bias[list(ids)] = FORBIDDEN
    return bias
