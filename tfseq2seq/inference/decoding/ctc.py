"""CTC: best path and prefix beam search over the encoder's positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.inference.alignment import ctc_alignment
from tfseq2seq.inference.decoding.base import Decoding, Endpoint, StreamSearch, log_softmax, memory_outputs
from tfseq2seq.layers.alignment_losses import CTCLoss, label_tokens, positions_needed
from tfseq2seq.layers.ctc import real_positions
from tfseq2seq.models.memory import Memory
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.ctc import (
    advance,
    begin,
    best_path,
    best_prefixes,
    likeliest_alignment,
    prefix_beam_search,
    transcript_of,
)
from tfseq2seq.sources import SourceInputs


class CTCDecoding(Decoding):
    """A beam of 1 without external scorers takes the likeliest label at each position."""

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        logits = self._logits(self.model.encode(given.inputs))
        if self.greedy:
            return best_path(logits, self.spec.max_length)
        return prefix_beam_search(logits, self.spec.max_length, self.spec.beam, self.kept, self.external.fusion)

    @property
    def greedy(self) -> bool:
        """Whether the search is the best path."""
        return self.spec.beam == 1 and not self.external.fusion

    @property
    def loop_free(self) -> bool:
        return self.greedy

    def _logits(self, memory: Memory) -> Any:
        return self.model.ctc(memory.values, memory.mask, training=False)

    def log_probabilities(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        """They are summed over all alignments and have no <eos>; without any alignment they are -inf."""
        logits = self._logits(self.model.encode(inputs))
        tokens, counts = label_tokens(labels)
        total = -CTCLoss(reduction=None)(labels, logits) * tf.cast(tf.maximum(counts, 1), tf.float32)
        # In training what has no alignment counts for nothing; here it has no probability.
        positions = tf.reduce_sum(tf.cast(real_positions(logits), tf.int32), axis=1)
        return tf.where(positions < positions_needed(tokens), -np.inf, total), counts

    def loop(self, encode: Callable[..., Memory], signature: Sequence[tf.TensorSpec]) -> list[Endpoint]:
        def encode_memory(*raw: Any) -> dict[str, Any]:
            memory = encode(*raw)
            return {**memory_outputs(memory), "log_probs": log_softmax(self._logits(memory))}

        return [Endpoint("encode", encode_memory, signature)]

    def evidence(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        memory = self.model.encode(inputs)
        return tf.nn.log_softmax(self._logits(memory)), memory.lengths

    def spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        return ctc_alignment(evidence, tokens)

    def stream(self) -> StreamSearch:
        return BestPathStream(self) if self.greedy else PrefixBeamStream(self)


class _CTCStream:
    """What the streams of CTC share."""

    def __init__(self, decoding: CTCDecoding):
        self.decoding, self.spec = decoding, decoding.spec
        self._advance = tf.function(self._advanced, autograph=False, reduce_retracing=True)
        self._best = tf.function(self._found, autograph=False, reduce_retracing=True)

    def encoded(self, memory: Any, mask: Any) -> Any:
        return self.decoding.model.ctc(memory, mask, training=False)

    def advance(self, state: Any, encoded: Any) -> Any:
        return self._advance(state, encoded)

    def finish(self, state: Any) -> Any:
        return state

    def ids(self, state: Any) -> Any:
        return self.best(state).ids[:, 0]

    def best(self, state: Any) -> Hypotheses:
        return self._best(state)

    def _advanced(self, state: Any, logits: Any) -> Any:
        raise NotImplementedError

    def _found(self, state: Any) -> Hypotheses:
        raise NotImplementedError


class BestPathStream(_CTCStream):
    """The likeliest label of each position; the state holds the labels so far and their log-probability."""

    def begin(self) -> Any:
        return tf.zeros([1, 0], tf.int32), tf.zeros([1])

    def _advanced(self, state: Any, logits: Any) -> Any:
        tokens, total = likeliest_alignment(logits)
        return tf.concat([state[0], tokens], 1), state[1] + total

    def _found(self, state: Any) -> Hypotheses:
        tokens, total = state
        return transcript_of(tokens, total, self.spec.max_length)


class PrefixBeamStream(_CTCStream):
    """Prefix beam search."""

    def begin(self) -> Any:
        return begin(tf.constant(1), self.spec.beam, tf.constant(self.spec.max_length), self.decoding.external.fusion)

    def _advanced(self, state: Any, logits: Any) -> Any:
        return advance(state, logits, self.decoding.external.fusion)

    def _found(self, state: Any) -> Hypotheses:
        return best_prefixes(state, self.decoding.kept, self.decoding.external.fusion)
