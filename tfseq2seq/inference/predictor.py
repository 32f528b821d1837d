"""A trained model as functions of raw inputs: strings, or samples.

The live model and every exported model call the same functions, so what is exported is what was measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.features.rules import load_rules
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.inference.decoding import build_decoding
from tfseq2seq.inference.external_scorers import load_external_scorers
from tfseq2seq.run import Run
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.shortlist import load_shortlist
from tfseq2seq.sources import AudioSource, Source, SourceInputs, TextSource
from tfseq2seq.spec import PAD, SearchSpec
from tfseq2seq.spec.recipe import LEAST_SCORED

# The setting that lets targets be longer, for messages.
SCORED_BY = "search.max_length"


class Predictor(tf.Module):
    """Raw inputs to texts, whatever the modality and the family of the decoder.

    Args:
        models: one model, or several over the same vocabularies whose probabilities are averaged.
        source: what they read.
        target: text features of what they write.
        search: how output is found, what ranks it beside the models, and rules for the text. If its `max_input` is 0,
            that is set to the least default of the kind of source.
        max_scored: the longest target that exported models and commands score, in tokens with <eos>.

    Raises:
        UserError: something that `search.shortlist`, `search.fusion` or `search.rules` names is missing or wrong, or
            the decoders cannot do what is asked for.

    Attributes:
        signature: the tensors that `texts` takes.
        decoding: what the family of the decoders answers.
    """

    def __init__(
        self,
        models: Sequence[Any],
        source: Source,
        target: TextFeatures,
        search: SearchSpec,
        max_scored: int = LEAST_SCORED,
    ):
        super().__init__(name="predictor")
        if not search.max_input:
            search = dataclasses.replace(search, max_input=source.spec.least_max_input)
        self.models, self.source, self.target, self.spec = list(models), source, target, search
        self.max_scored = max_scored
        source.with_target(target)
        self.external, self.rules = load_external_scorers(search, target), load_rules(search.rules)
        # What holds variables and tables is kept where exports look for it.
        self.external_parts, self.source_features = self.external.parts, source.features
        self.source_parts = source.parts
        self.shortlist = None
        if search.shortlist:
            tokens = source.features.vocabulary.tokens if source.features else ()
            allowed = {*self.external.wanted, *range(target.spec.first_ordinary_id)}
            self.shortlist = load_shortlist(search, tokens, target.vocabulary.tokens, allowed)
        self.decoding = build_decoding(self.models, source, search, self.external, self.shortlist)
        self.signature = list(source.signature)

    @classmethod
    def of_runs(cls, runs: Sequence[Run], weights: str | None = None, search: SearchSpec | None = None) -> Predictor:
        """The predictor of a run, or of several as an ensemble.

        Args:
            runs: the first one's recipe tells how output is found.
            weights: a weights file instead of the finished ones.
            search: instead of the recipe's.

        Raises:
            UserError: the runs have different vocabularies, or weights are missing or damaged.
        """
        first = runs[0]
        for run in runs[1:]:
            same_target = run.target.vocabulary == first.target.vocabulary
            for side, same in (("source", run.source.same_vocabulary(first.source)), ("target", same_target)):
                if not same:
                    raise UserError(
                        f"{run.folder}: its {side} vocabulary is not that of {first.folder}; ensembles share both"
                    )
        recipe = first.recipe if search is None else dataclasses.replace(first.recipe, search=search)
        models = [run.load_model(weights) for run in runs]
        limited = dataclasses.replace(recipe.search, max_input=recipe.max_input)
        return cls(models, first.source, first.target, limited, recipe.max_scored)

    def pack(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """Python values as the tensors of `signature`."""
        return self.source.pack(values)

    def length(self, value: Any) -> int:
        """The size of a Python value, for sorting."""
        return self.source.length(value)

    def faults(self, values: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the Python values that are longer than the model answers (`search.max_input`)."""
        return self.source.faults(self.spec.max_input, values)

    def target_faults(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """(index, message) of the target texts that are longer than the model scores or begins an output with."""
        errors = self.target.too_long(tf.constant(list(texts), tf.string), self.max_scored, SCORED_BY).numpy()
        return [(index, error.decode("utf-8")) for index, error in enumerate(errors) if error]

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        """Finds the `n_best` best hypotheses for sources, after all external scorers."""
        return self.external.rank(self.decoding.search(given, with_attention), self.spec.n_best)

    def texts(self, *raw: Any, prefix: Any = None) -> dict[str, tf.Tensor]:
        """Raw tensors to the best outputs: "text" [B, N], "score" [B, N] (what they are ranked by) and "log_prob".

        "cut" [B, N] tells of each output whether it may have been cut off, see `may_be_cut`. Where a source is empty,
        the texts are empty and the scores 0.

        Args:
            raw: the tensors of `signature`.
            prefix: strings [B] that the outputs begin with.
        """
        given = self.source.inputs(*raw)
        if prefix is not None:
            if not self.decoding.takes_prefix:
                raise UserError("--prefix: needs a decoder that writes token by token; this search has none")
            if given.prefix is not None:
                raise UserError("--prefix: must be left out, as the inputs of a language model are prompts")
            given = given._replace(prefix=self.prefix_ids(prefix))
        found = self.search(given)
        empty = tf.expand_dims(given.empty, 1)
        return {
            "text": tf.where(empty, "", self.rules(self.target.detokenize(found.ids))),
            "score": tf.where(empty, 0.0, found.scores),
            "log_prob": tf.where(empty, 0.0, found.log_probs),
            "cut": tf.logical_and(tf.logical_not(empty), self.may_be_cut(found)),
        }

    def may_be_cut(self, found: Hypotheses) -> tf.Tensor:
        """Whether hypotheses [B, N] are as long as the search lets them be, bool.

        At that length a decoder that writes <eos> is allowed no other token, and a search without <eos> adds none.
        """
        count = tf.reduce_sum(tf.cast(tf.not_equal(found.ids, PAD), tf.int32), axis=2)
        limits = self.spec.max_length if found.limits is None else tf.expand_dims(found.limits, 1)
        return count >= limits

    def prefix_ids(self, prefix: Any) -> tf.Tensor:
        """Strings [B] to ids [B, P] without <eos>, padded."""
        return self.target.ids(prefix, end=False).to_tensor(PAD)

    def log_probabilities(self, *raw_and_target: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probabilities in nats of target strings [B] given raw sources, [B], and the tokens they count, [B].

        Args:
            raw_and_target: the tensors of `signature`, and strings [B].
        """
        *raw, target = raw_and_target
        return self.decoding.log_probabilities(self.source.inputs(*raw).inputs, self.target(target))


class TextToText(Predictor):
    """Source strings to target strings.

    Args:
        models: one, or several that are averaged.
        source: text features of the source, or a `TextSource` such as a run has.
        target: text features of the target.
        search: how output is found.
    """

    def __init__(self, models: Sequence[Any], source: Any, target: TextFeatures, search: SearchSpec):
        features = getattr(source, "features", source)
        super().__init__(models, TextSource(features.spec, features), target, search)


class SpeechToText(Predictor):
    """Samples to transcripts.

    Args:
        models: one, or several that are averaged.
        target: text features of the transcripts.
        search: how output is found.
    """

    def __init__(self, models: Sequence[Any], target: TextFeatures, search: SearchSpec):
        super().__init__(models, AudioSource(models[0].source), target, search)
