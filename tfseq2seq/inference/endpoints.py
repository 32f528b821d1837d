"""A trained model as functions of raw strings or samples.

The live model and every artefact call the same functions, so what is exported is what was measured. An endpoint takes
inputs one by one through `pack`, as tensors that fit `signature`; `extent` tells how long one is, for sorting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.features.rules import load_rules
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import answers, decode, summed_log_probs
from tfseq2seq.inference.external_scorers import load_external_scorers
from tfseq2seq.inference.speech import SpeechToText
from tfseq2seq.models.language import LanguageModel
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.fusion import JointScorer
from tfseq2seq.search.shortlist import load_shortlist, narrowed_fusion
from tfseq2seq.spec import EOS, PAD, SearchSpec


class TextToText(tf.Module):
    """Source strings to target strings.

    Args:
        models: one model, or several over the same vocabularies whose probabilities are averaged.
        source: of the source side.
        target: of the target side.
        search: how output is found, what ranks it beside the models, and rules for the text.

    Raises:
        UserError: something that `search.shortlist`, `search.fusion` or `search.rules` names is missing or wrong.
    """

    def __init__(self, models: Sequence[Seq2Seq], source: TextFeatures, target: TextFeatures, search: SearchSpec):
        super().__init__(name="text_to_text")
        self.models, self.source, self.target, self.spec = list(models), source, target, search
        self.external, self.rules = load_external_scorers(search, target), load_rules(search.rules)
        self.external_parts = self.external.parts
        self.shortlist = load_shortlist(
            search, source.vocabulary.tokens, target.vocabulary.tokens, self.external.wanted
        )
        self.signature = [tf.TensorSpec([None], tf.string, name="text")]

    @staticmethod
    def pack(texts: Sequence[str]) -> list[tf.Tensor]:
        """Strings as one tensor [B]."""
        return [tf.constant(list(texts), tf.string)]

    @staticmethod
    def length(text: str) -> int:
        return len(text)

    def search(self, ids: Any, prefix: Any = None, with_attention: bool = False) -> Hypotheses:
        """Searches for the outputs of source ids [B, S], each with its <eos>; `prefix` [B, P] ids."""
        memories = [model.encode(ids) for model in self.models]
        lengths = tf.reduce_sum(tf.cast(tf.not_equal(ids, PAD), tf.int32), axis=1) - 1
        candidates = self.shortlist(ids, prefix) if self.shortlist else None
        fusion = self.external.fusion
        if candidates is not None:
            fusion = narrowed_fusion(fusion, candidates)
        joint_scorer = JointScorer(fusion) if fusion else None
        spec = dataclasses.replace(self.spec, n_best=self.spec.beam) if self.external.come_after else self.spec
        found = decode(self.models, memories, lengths, spec, prefix, with_attention, joint_scorer, candidates)
        return self.external.rank(found, self.spec.n_best)

    def texts(self, text: Any, prefix: Any = None) -> dict[str, tf.Tensor]:
        """Strings [B] to the best outputs: "text" [B, N], "score" [B, N] (what they are ranked by) and "log_prob".

        Nothing in gives nothing out: for a string without any token the texts are empty and the scores 0.
        """
        ids = self.source(text)
        found = self.search(ids, None if prefix is None else self.prefix_ids(prefix))
        return answers(found, self.target, tf.equal(ids[:, :1], EOS), self.rules)

    def prefix_ids(self, prefix: Any) -> tf.Tensor:
        """Strings [B] to ids [B, P] without <eos>, padded."""
        return self.target.tokenize(prefix).to_tensor(PAD)

    def log_probabilities(self, text: Any, target: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probability in nats of target strings [B] given source strings [B], <eos> included, and token counts."""
        labels = self.target(target)
        inputs = {"source": self.source(text), "target": decoder_input(labels)}
        logs = [tf.nn.log_softmax(tf.cast(model(inputs, training=False), tf.float32)) for model in self.models]
        mean = tf.reduce_logsumexp(tf.stack(logs), axis=0) - tf.math.log(float(len(logs)))
        return summed_log_probs(mean, labels)


def endpoint(
    models: Sequence[Any], source: TextFeatures | None, target: TextFeatures, search: SearchSpec
) -> TextToText | SpeechToText:
    """The endpoint of trained models: of text where there are source features, else of speech.

    Raises:
        UserError: a language model is among them, or as the endpoint.
    """
    if any(isinstance(model, LanguageModel) for model in models):
        raise UserError("a language model has no input; use it as search.fusion.model of another, or `tfseq2seq score`")
    return SpeechToText(models, target, search) if source is None else TextToText(models, source, target, search)
