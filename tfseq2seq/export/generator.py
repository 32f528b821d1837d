"""Generation over many strings with a live model: sorted by length, batched, order kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.export.endpoints import TextToText


@dataclass(frozen=True)
class Output:
    """The outputs for one input, best first: texts, scores they are ranked by, log-probabilities in nats."""

    texts: list[str]
    scores: list[float]
    log_probs: list[float]


class Generator:
    """Calls a `TextToText` on lists of strings.

    Args:
        model: what to call.
        batch_size: inputs at once; they are sorted by length first, so that little is padding.
    """

    def __init__(self, model: TextToText, batch_size: int = 64):
        self.model, self.batch_size = model, batch_size
        text = tf.TensorSpec([None], tf.string)
        self._texts = tf.function(model.texts, input_signature=[text], autograph=False)
        self._forced = tf.function(model.texts, input_signature=[text, text], autograph=False)
        self._log_probs = tf.function(model.log_probabilities, input_signature=[text, text], autograph=False)

    def generate(self, texts: Sequence[str], prefixes: Sequence[str] | None = None) -> list[Output]:
        """Outputs for each string, in the order given; with `prefixes`, outputs begin with theirs."""
        outputs: list[Output | None] = [None] * len(texts)
        for places in self._batches(texts):
            arguments = [_strings(texts, places)]
            if prefixes is not None:
                arguments.append(_strings(prefixes, places))
            found = (self._texts if prefixes is None else self._forced)(*arguments)
            for row, place in enumerate(places):
                outputs[place] = Output(
                    [text.decode("utf-8", "replace") for text in found["text"][row].numpy()],
                    found["score"][row].numpy().tolist(),
                    found["log_prob"][row].numpy().tolist(),
                )
        return [output for output in outputs if output is not None]

    def log_probabilities(self, texts: Sequence[str], targets: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """For each pair the log-probability of its target in nats, [N], and the tokens in it, <eos> included, [N]."""
        totals, counts = np.zeros(len(texts), "float64"), np.zeros(len(texts), "int64")
        for places in self._batches([f"{a} {b}" for a, b in zip(texts, targets, strict=True)]):
            found = self._log_probs(_strings(texts, places), _strings(targets, places))
            totals[places], counts[places] = found[0].numpy(), found[1].numpy()
        return totals, counts

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for begin in range(0, len(order), self.batch_size):
            yield order[begin : begin + self.batch_size]


def _strings(texts: Sequence[str], places: Sequence[int]) -> Any:
    return tf.constant([texts[place] for place in places])
