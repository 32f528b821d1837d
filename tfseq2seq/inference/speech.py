"""A trained speech model as functions of samples: what `TextToText` is for text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.features.rules import load_rules
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import answers, decode, summed_log_probs
from tfseq2seq.inference.external_scorers import load_external_scorers
from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss, label_tokens, positions_needed
from tfseq2seq.layers.ctc import real_positions
from tfseq2seq.models.ctc import CTCModel
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.models.transducer import TransducerModel
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.ctc import best_path, prefix_beam_search
from tfseq2seq.search.fusion import JointScorer
from tfseq2seq.search.transducer import TransducerSearch, transducer_search
from tfseq2seq.spec import SearchSpec

# Next tokens by attention for each hypothesis that CTC is asked about too.
_CANDIDATES_PER_BEAM = 2


class SpeechToText(tf.Module):
    """Samples to transcripts.

    Args:
        models: one trained model.
        target: of the transcripts.
        search: how they are found, what ranks them beside the model, and rules for the text.

    Raises:
        UserError: several models, which only text endpoints take; something that `search.fusion` or `search.rules`
            names is missing or wrong.
    """

    def __init__(self, models: Sequence[Any], target: TextFeatures, search: SearchSpec):
        super().__init__(name="speech_to_text")
        if len(models) != 1:
            raise UserError(f"{len(models)} speech models: an ensemble is for text; give one run")
        self.models, self.target, self.spec = list(models), target, search
        self.model = models[0]
        self.external, self.rules = load_external_scorers(search, target), load_rules(search.rules)
        self.external_parts = self.external.parts
        self.fusion = self.external.fusion
        # What is ranked anew afterwards is the whole beam.
        self.kept = search.beam if self.external.come_after else search.n_best
        self.rate = self.model.source.sample_rate
        self.signature = [
            tf.TensorSpec([None, None], tf.float32, name="audio"),
            tf.TensorSpec([None], tf.int32, name="length"),
        ]

    @staticmethod
    def pack(recordings: Sequence[np.ndarray]) -> list[tf.Tensor]:
        """Arrays of samples as [B, N] float32, padded, and their lengths [B]."""
        return [tf.constant(values) for values in padded_rows(recordings, "float32")]

    @staticmethod
    def length(samples: np.ndarray) -> int:
        return len(samples)

    def hypotheses(self, audio: Any, length: Any, with_attention: bool = False) -> Hypotheses:
        """Searches for the transcripts of samples [B, N] with lengths [B]."""
        found = self._search(audio, length, with_attention)
        return self.external.rank(found, self.spec.n_best)

    def _search(self, audio: Any, length: Any, with_attention: bool) -> Hypotheses:
        memory = self.model.encode(audio, length)
        frames = tf.reduce_sum(tf.cast(memory[1], tf.int32), axis=1)
        if isinstance(self.model, TransducerModel):
            return self._by_transducer(memory, frames)
        if isinstance(self.model, CTCModel) or (self.model.ctc is not None and self.spec.ctc_weight == 1.0):
            return self._by_ctc(self.model.ctc(memory[0], memory[1], training=False))
        return self._by_attention(memory, frames, with_attention)

    def texts(self, audio: Any, length: Any, prefix: Any = None) -> dict[str, tf.Tensor]:
        """Samples [B, N] and lengths [B] to the best transcripts: "text" [B, N], "score" [B, N] (what they are ranked
        by) and "log_prob".

        Nothing in gives nothing out: for a recording without samples the texts are empty and the scores 0. A sample
        that is no number counts as silence.

        Raises:
            UserError: there is a prefix, which is for text.
        """
        if prefix is not None:
            raise UserError("a prefix is for text; a transcript begins as its recording does")
        audio = tf.where(tf.math.is_finite(audio), audio, 0.0)
        found = self.hypotheses(audio, length)
        return answers(found, self.target, tf.expand_dims(tf.equal(length, 0), 1), self.rules)

    def log_probabilities(self, audio: Any, length: Any, target: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probability in nats of transcripts [B] given samples [B, N] and lengths [B], and token counts [B].

        Of an attention decoder it is of the tokens and <eos>; of CTC and transducer it is summed over all alignments
        and has no <eos>, and without any alignment it is -inf. A model with both outputs is asked for its attention
        decoder's.
        """
        labels = self.target(target)
        inputs = {"source": audio, "source_length": length, "target": decoder_input(labels)}
        if isinstance(self.model, CTCModel | TransducerModel):
            loss = (CTCLoss if isinstance(self.model, CTCModel) else TransducerLoss)(reduction=None)
            wanted = {name: inputs[name] for name in self.model.input}
            tokens, counts = label_tokens(labels)
            logits = self.model(wanted, training=False)
            total = -loss(labels, logits) * tf.cast(tf.maximum(counts, 1), tf.float32)
            if isinstance(self.model, CTCModel):
                # In training what has no alignment counts for nothing; here it cannot be said.
                positions = tf.reduce_sum(tf.cast(real_positions(logits), tf.int32), axis=1)
                total = tf.where(positions < positions_needed(tokens), -np.inf, total)
            return total, counts
        outputs = self.model(inputs, training=False)
        logits = outputs["attention"] if isinstance(outputs, dict) else outputs
        return summed_log_probs(tf.nn.log_softmax(tf.cast(logits, tf.float32)), labels)

    def _by_ctc(self, logits: Any) -> Hypotheses:
        if self.spec.beam == 1 and not self.fusion:
            return best_path(logits, self.spec.max_length)
        return prefix_beam_search(logits, self.spec.max_length, self.spec.beam, self.kept, self.fusion)

    def _by_transducer(self, memory: Any, frames: Any) -> Hypotheses:
        model: TransducerModel = self.model
        beam = self.spec.beam
        states = model.start(tf.shape(frames)[0] * beam)
        search = TransducerSearch(model.predictor_step, model.logits, self.spec.max_length, beam, self.fusion)
        return transducer_search(search, model.project_memory(memory[0]), frames, states, self.kept)

    def _by_attention(self, memory: Any, frames: Any, with_attention: bool) -> Hypotheses:
        model: Seq2Seq = self.model
        joint_scorer = None
        if not self.spec.sample and (self.fusion or (model.ctc is not None and self.spec.ctc_weight)):
            ctc = None if model.ctc is None else model.ctc(memory[0], memory[1], training=False)
            candidates = max(_CANDIDATES_PER_BEAM * self.spec.beam, 8)
            joint_scorer = JointScorer(self.fusion, ctc, self.spec.ctc_weight, candidates)
        spec = dataclasses.replace(self.spec, n_best=self.kept)
        return decode([model], [memory], frames, spec, None, with_attention, joint_scorer)
