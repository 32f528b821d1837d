"""Transducers: alignment-length synchronous beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.inference.alignment import transducer_alignment
from tfseq2seq.inference.decoding.base import (
    Decoding,
    Endpoint,
    StreamSearch,
    log_softmax,
    memory_outputs,
    numbered,
    numbered_specs,
)
from tfseq2seq.layers.alignment_losses import TransducerLoss, label_tokens
from tfseq2seq.models.memory import Memory
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.transducer import Progress, TransducerSearch, earliest_position, transducer_search
from tfseq2seq.sources import SourceInputs
from tfseq2seq.spec import BLANK


class TransducerDecoding(Decoding):
    """A beam of 1 is greedy search."""

    def new_search(self) -> TransducerSearch:
        """The search over this model's networks."""
        model, spec = self.model, self.spec
        return TransducerSearch(model.predictor_step, model.logits, spec.max_length, spec.beam, self.external.fusion)

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        memory = self.model.encode(given.inputs)
        frames = memory.lengths
        states = self.model.start(tf.shape(frames)[0] * self.spec.beam)
        encoded = self.model.project_memory(memory.values)
        return transducer_search(self.new_search(), encoded, frames, states, self.kept)

    def log_probabilities(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        """They are summed over all alignments and have no <eos>."""
        logits = self._lattice(inputs, labels)
        _, counts = label_tokens(labels)
        total = -TransducerLoss(reduction=None)(labels, logits) * tf.cast(tf.maximum(counts, 1), tf.float32)
        return total, counts

    def _lattice(self, inputs: dict[str, Any], labels: Any) -> Any:
        given = {**inputs, "target": decoder_input(labels)}
        return self.model({name: given[name] for name in self.model.input}, training=False)

    def loop(self, encode: Callable[..., Memory], signature: Sequence[tf.TensorSpec]) -> list[Endpoint]:
        network = self.model

        def encode_frames(*raw: Any) -> dict[str, Any]:
            memory = encode(*raw)
            states = network.start(tf.shape(memory.values)[0])
            frames = network.project_memory(memory.values)
            return {**memory_outputs(memory), "frames": frames, **numbered("state", states)}

        def step_frame(frame: Any, token: Any, *states: Any) -> dict[str, Any]:
            predicted, new_states = network.predictor_step(token, list(states))
            return {"log_probs": log_softmax(network.logits(frame, predicted)), **numbered("state", new_states)}

        first = Endpoint("encode", encode_frames, signature)
        given = first.graph.structured_outputs
        frame = tf.TensorSpec([None, given["frames"].shape[-1]], given["frames"].dtype, name="frame")
        token = tf.TensorSpec([None], tf.int32, name="token")
        return [first, Endpoint("decode_step", step_frame, [frame, token, *numbered_specs(given, "state")])]

    def evidence(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        logits = self._lattice(inputs, labels)
        log_probs = tf.nn.log_softmax(logits)
        # After each number of tokens: the blank, and the next token.
        tokens = tf.expand_dims(tf.repeat(labels[:, tf.newaxis], tf.shape(logits)[1], 1), 3)
        chosen = tf.gather(log_probs, tokens, batch_dims=3)
        return tf.concat([log_probs[..., BLANK : BLANK + 1], chosen], axis=3), self.model.encode(inputs).lengths

    def spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        return [(position, position + 1) for position in transducer_alignment(evidence, len(tokens))]

    def stream(self) -> StreamSearch:
        return TransducerStream(self)


class _Waiting(NamedTuple):
    """A search's progress, the positions that it still needs, the number of the first, and how many came so far."""

    progress: Progress
    encoded: Any
    first: int
    received: int


class TransducerStream:
    """A transducer's search over a stream. The last position waits until it is known whether it is the last."""

    def __init__(self, decoding: TransducerDecoding):
        self.decoding, self.search = decoding, decoding.new_search()
        self._go_on = tf.function(self._advanced, autograph=False, reduce_retracing=True)
        self._best = tf.function(self._found, autograph=False, reduce_retracing=True)

    def encoded(self, memory: Any, mask: Any) -> Any:
        return self.decoding.model.project_memory(memory)

    def begin(self) -> _Waiting:
        network = self.decoding.model.start(self.decoding.spec.beam)
        return _Waiting(self.search.begin(tf.constant(1), network), None, 0, 0)

    def advance(self, state: _Waiting, encoded: Any) -> _Waiting:
        known = encoded if state.encoded is None else tf.concat([state.encoded, encoded], 1)
        received = state.received + int(encoded.shape[1])
        return self._moved(state._replace(encoded=known, received=received), np.iinfo("int32").max, received - 1)

    def finish(self, state: _Waiting) -> _Waiting:
        return self._moved(state, state.received, state.received)

    def ids(self, state: _Waiting) -> Any:
        live = state.progress.live
        best = int(tf.argmax(tf.where(live.prefixes.used, live.sums + live.added, -np.inf)[0]))
        return live.prefixes.ids[:, best]

    def best(self, state: _Waiting) -> Hypotheses:
        return self._best(state.progress)

    def _moved(self, state: _Waiting, frames: int, known: int) -> _Waiting:
        arguments = tf.constant(state.first), tf.constant([frames]), tf.constant(known)
        progress, needed = self._go_on(state.progress, state.encoded, *arguments)
        return _Waiting(progress, state.encoded[:, int(needed) - state.first :], int(needed), state.received)

    def _advanced(self, progress: Progress, encoded: Any, first: Any, frames: Any, known: Any) -> Any:
        """The progress after more positions, and the first position that it still needs."""
        progress = self.search.advance(progress, encoded, frames, self.decoding.kept, first, known)
        return progress, earliest_position(progress.step, progress.live.prefixes)

    def _found(self, progress: Progress) -> Hypotheses:
        return self.search.best(progress, self.decoding.kept)
