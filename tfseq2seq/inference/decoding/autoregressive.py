"""Decoders that write token by token until <eos>: Transformers and recurrent decoders, with CTC beside them or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.inference.alignment import ctc_alignment, forward_alignment
from tfseq2seq.inference.decoding.base import (
    Decoding,
    Endpoint,
    StreamSearch,
    TokenWriter,
    log_softmax,
    memory_outputs,
    numbered,
    numbered_specs,
    summed_log_probs,
)
from tfseq2seq.inference.decoding.ctc import CTCDecoding
from tfseq2seq.inference.decoding.token_writer import SingleWriter
from tfseq2seq.models.memory import Memory
from tfseq2seq.search.beam import Hypotheses, StepFunction, beam_search
from tfseq2seq.search.constraints import length_limits, prompt_lengths
from tfseq2seq.search.ensemble import ensemble_cache, ensemble_step
from tfseq2seq.search.fusion import JointScorer
from tfseq2seq.search.growing_cache import widened
from tfseq2seq.search.ranking import widened_step
from tfseq2seq.search.sampling import sample
from tfseq2seq.search.shortlist import narrowed_fusion, narrowed_step
from tfseq2seq.sources import SourceInputs
from tfseq2seq.spec import BOS

# Next tokens by attention for each hypothesis that CTC is asked about too.
_CANDIDATES_PER_BEAM = 2


class AutoregressiveDecoding(Decoding):
    """Beam search, greedy search (a beam of 1) or sampling; ensembles average probabilities."""

    def check(self) -> None:
        copies = {model.spec.decoder.copies for model in self.models}
        if len(copies) > 1:
            raise UserError(
                "model.decoder.copy: must be the same in all runs of an ensemble, as the others have no probability "
                "for copied words, got both true and false"
            )
        if True in copies:
            self._check_copying()
        if len(self.models) > 1 and self._joint:
            raise UserError(
                f"{len(self.models)} models: an ensemble does not average CTC outputs; set search.ctc_weight to 0"
            )

    def _check_copying(self) -> None:
        if self.shortlist:
            raise UserError(
                "search.shortlist: must be empty with model.decoder.copy, which also writes tokens outside of a "
                f"shortlist, got {self.spec.shortlist!r}"
            )
        if self._extended and self.suppression is not None:
            raise UserError(
                "search.suppress_tokens, search.begin_suppress_tokens: must be left out with model.decoder.copy and "
                "whole words as tokens, as the source has its words all the same"
            )
        if self._extended and self.stops is not None:
            raise UserError(
                "search.stop_strings: must be left out with model.decoder.copy and whole words as tokens, as copied "
                "words that the vocabulary lacks are not compared with them"
            )
        if self._extended and (self.external.fusion or self.external.come_after):
            raise UserError(
                "search.fusion: must be left out with model.decoder.copy and whole words as tokens: external scorers "
                "have no score for copied words that the vocabulary lacks"
            )

    @property
    def _extended(self) -> bool:
        """Whether there are ids for words of the source that the vocabulary lacks."""
        return self.model.copying is not None and self.model.copying.extended

    @property
    def _joint(self) -> bool:
        """Whether a CTC output takes part in the ranking."""
        return self.model.ctc is not None and self.spec.ctc_weight > 0 and not self.spec.sample

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        if self._joint and self.spec.ctc_weight == 1.0:
            return self._by_ctc.search(given, with_attention)
        memories = [model.encode(given.inputs) for model in self.models]
        prefix, fusion, tokens = given.prefix, self.external.fusion, None
        candidates = self.shortlist(memories[0].ids, prefix) if self.shortlist else None
        if candidates is not None:
            fusion, tokens = narrowed_fusion(fusion, candidates), candidates.ids
            # From here on ids are indices of candidates.
            prefix = None if prefix is None else tf.gather(candidates.indices, prefix)
        lengths = self.source.output_lengths(given, memories[0])
        batch = tf.shape(lengths)[0]
        limits = length_limits(self.spec, batch, lengths, prefix, self.begun)
        step, fixed, cache = self._start(memories, candidates, given.prefix)
        first, mask = tf.fill([batch], BOS), memories[0].mask
        if self.spec.sample:
            width = tf.shape(mask)[1]
            return sample(step, fixed, cache, first, limits, self.spec, prefix, with_attention, width, given.seeds)
        spec = dataclasses.replace(self.spec, n_best=self.kept)
        joint_scorer = self._joint_scorer(fusion, memories[0])
        found = beam_search(step, fixed, cache, first, limits, spec, prefix, mask, with_attention, joint_scorer)
        return found if tokens is None else found._replace(ids=tf.gather(tokens, found.ids))

    def _start(self, memories: Sequence[Memory], candidates: Any, prefix: Any) -> tuple[StepFunction, Any, Any]:
        """The step function of all models together, what is fixed for it, and its first cache."""
        beam = self.spec.n_best if self.spec.sample else self.spec.beam
        tokens = None if candidates is None else candidates.ids
        # Capacity for one position: search makes more as it needs it.
        starts = [model.start(memory, beam, 1, tokens) for model, memory in zip(self.models, memories, strict=True)]
        steps: list[StepFunction] = [model.step for model in self.models]
        if candidates is not None:
            steps = [narrowed_step(step, candidates) for step in steps]
        if self._extended:
            steps = [widened_step(step, self.model.target_size, self.spec) for step in steps]
        fixed: Any = [fixed for fixed, _ in starts]
        step = ensemble_step(steps)
        cache = ensemble_cache([cache for _, cache in starts])
        if len(steps) == 1:
            step, fixed, cache = steps[0], fixed[0], starts[0][1]
        if self.suppression is not None:
            step = self.suppression.step(step, prompt_lengths(prefix))
        if self.stops is None:
            return step, fixed, cache
        batch = tf.shape(memories[0].mask)[0]
        return self.stops.step(step, prompt_lengths(prefix), tokens), fixed, self.stops.cache(cache, batch, beam)

    def _joint_scorer(self, fusion: Any, memory: Memory) -> JointScorer | None:
        if not fusion and not self._joint:
            return None
        ctc = self.model.ctc(memory.values, memory.mask, training=False) if self._joint else None
        return JointScorer(fusion, ctc, self.spec.ctc_weight, max(_CANDIDATES_PER_BEAM * self.spec.beam, 8))

    @property
    def _by_ctc(self) -> CTCDecoding:
        return CTCDecoding(self.models, self.source, self.spec, self.external)

    def log_probabilities(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        """Of a model with both outputs they are the attention decoder's."""
        given = {**inputs, "target": decoder_input(labels)}
        logs = []
        for model in self.models:
            outputs = model({name: given[name] for name in model.input}, training=False)
            logs.append(log_softmax(outputs["attention"] if isinstance(outputs, dict) else outputs))
        mean = tf.reduce_logsumexp(tf.stack(logs), axis=0) - tf.math.log(float(len(logs)))
        return summed_log_probs(mean, labels, self.begun)

    @property
    def takes_prefix(self) -> bool:
        return not (self._joint and self.spec.ctc_weight == 1.0)

    @property
    def has_attention(self) -> bool:
        return self.model.has_attention

    def attention(self, inputs: dict[str, Any], target: Any) -> Any:
        given = {**inputs, "target": target}
        network = self.model.with_attention()
        found = network({name: given[name] for name in self.model.input}, training=False)
        return tf.cast(found["attention"], tf.float32)

    def evidence(self, inputs: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        if self.model.ctc is not None:
            return self._by_ctc.evidence(inputs, labels)
        weights = self.attention(inputs, decoder_input(labels))
        return tf.transpose(tf.math.log(weights + 1e-9), [0, 2, 1]), self.model.encode(inputs).lengths

    def spans(self, evidence: np.ndarray, tokens: Sequence[int]) -> list[tuple[float, float]]:
        if self.model.ctc is not None:
            return ctc_alignment(evidence, tokens)
        return forward_alignment(evidence[:, : len(tokens)])

    def token_writer(self) -> TokenWriter:
        spec = self.spec
        reasons = {
            f"search.beam {spec.beam}: a beam decides on its first token with its last; set search.beam=1 or "
            "search.sample=true": spec.beam > 1 and not spec.sample,
            f"search.n_best {spec.n_best}: must be 1": spec.n_best > 1,
            "search.stop exact: must be full": spec.stop != "full",
            f"{len(self.models)} models: an ensemble is not written token by token; give one run": len(self.models) > 1,
            "search.fusion: must be left out": bool(self.external.fusion) or self.external.come_after,
            "search.ctc_weight: must be 0": self._joint,
            "search.shortlist: must be left out": self.shortlist is not None,
            "search.coverage_penalty: must be 0": spec.coverage_penalty > 0,
            "model.decoder.copy with whole words as tokens: what an id means is known with its source alone": (
                self._extended
            ),
        }
        for reason, applies in reasons.items():
            if applies:
                raise UserError(reason)
        return SingleWriter(self.model, self.source, spec, self.stops, self.suppression, self.begun)

    def stream(self) -> StreamSearch:
        if self._joint and self.spec.ctc_weight == 1.0:
            return self._by_ctc.stream()
        raise UserError(
            "an attention decoder looks at the whole recording; stream with CTC alone, by search.ctc_weight=1"
        )

    def loop(self, encode: Callable[..., Memory], signature: Sequence[tf.TensorSpec]) -> list[Endpoint]:
        network = self.model
        # The structure that flat lists of tensors are packed into; it is the same for every batch.
        structure: dict[str, Any] = {}

        def encode_memory(*raw: Any) -> dict[str, Any]:
            memory = encode(*raw)
            fixed, cache = network.start(memory, 1, 0)
            structure["fixed"] = {name: fixed[name] for name in ("decoder", "copy_ids")}
            structure["state"] = cache
            flat = {name: tf.nest.flatten(structure[name]) for name in ("fixed", "state")}
            return {**memory_outputs(memory), **numbered("fixed", flat["fixed"]), **numbered("state", flat["state"])}

        first = Endpoint("encode", encode_memory, signature)
        given = first.graph.structured_outputs
        fixed_specs, state_specs = numbered_specs(given, "fixed"), numbered_specs(given, "state")

        def step(token: Any, *flat: Any) -> dict[str, Any]:
            fixed = tf.nest.pack_sequence_as(structure["fixed"], flat[: len(fixed_specs)])
            cache = tf.nest.pack_sequence_as(structure["state"], flat[len(fixed_specs) :])
            history = tf.nest.flatten(cache["history"])
            # A state holds all the past there is where nothing is kept per position.
            index = tf.shape(history[0])[2] if history else tf.constant(0)
            visible = tf.ones([tf.shape(token)[0], 1, index + 1], tf.bool)
            everything = {**fixed, "output": network.output_layer.columns()}
            longer = widened(cache, index + 1)
            logits, cache, _ = network.step(token[:, tf.newaxis], index, visible, everything, longer)
            return {"log_probs": log_softmax(logits[:, 0]), **numbered("state", tf.nest.flatten(cache))}

        token = tf.TensorSpec([None], tf.int32, name="token")
        return [first, Endpoint("decode_step", step, [token, *fixed_specs, *state_specs])]
