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
from tfseq2seq.features.vocabulary import unicode_form
from tfseq2seq.inference.decoding import build_decoding
from tfseq2seq.inference.external_scorers import load_external_scorers
from tfseq2seq.run import Run
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.constraints import prompt_lengths
from tfseq2seq.search.shortlist import load_shortlist
from tfseq2seq.search.stop_strings import StopStrings, cut_pattern
from tfseq2seq.search.suppression import Suppression
from tfseq2seq.sources import AudioSource, NoSource, Source, SourceInputs, TextSource
from tfseq2seq.spec import INFILLING_TOKENS, PAD, NoSourceSpec, SearchSpec
from tfseq2seq.spec.limits import too_many_tokens
from tfseq2seq.spec.recipe import LEAST_SCORED

# Where a suffix is given to a model that takes none.
NOTHING_TO_FILL = (
    f"--suffix: needs a language model (source.kind none) whose target.reserved has {', '.join(INFILLING_TOKENS)}; it "
    "is trained with data.infilling"
)
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
        source.with_target(target, self.models[0].spec.decoder.copies)
        self.external, self.rules = load_external_scorers(search, target), load_rules(search.rules)
        # What holds variables and tables is kept where exports look for it.
        self.external_parts, self.source_features = self.external.parts, source.features
        self.source_parts = source.parts
        self.shortlist = None
        if search.shortlist:
            tokens = source.features.vocabulary.tokens if source.features else ()
            allowed = {*self.external.wanted, *range(target.spec.first_ordinary_id)}
            self.shortlist = load_shortlist(search, tokens, target.vocabulary.tokens, allowed)
        self.stops = _stop_strings(search, target)
        # What is written behind a prompt has no begin of its own.
        self.begin = () if "prompts" in source.spec.provides else target.begin_ids
        self.decoding = build_decoding(
            self.models,
            source,
            search,
            self.external,
            self.shortlist,
            self.stops,
            _suppression(search, target),
            len(self.begin),
        )
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

    def positions(self, length: int) -> Any:
        """The positions that an input of this `length` has in the model: an upper limit for text, of which it counts
        characters."""
        return self.models[0].positions(length)

    def faults(self, values: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the Python values that are longer than the model answers (`search.max_input`)."""
        return self.source.faults(self.spec.max_input, values)

    def warnings(self, values: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the Python values of which something is not read, such as turns that do not fit."""
        return self.source.warnings(values)

    def target_faults(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """(index, message) of the target texts that are longer than the model scores or begins an output with."""
        errors = self.target.too_long(tf.constant(list(texts), tf.string), self.max_scored, SCORED_BY).numpy()
        return [(index, error.decode("utf-8")) for index, error in enumerate(errors) if error]

    def suffix_faults(self, prompts: Sequence[str], suffixes: Sequence[str]) -> list[tuple[int, str]]:
        """(index, message) of the suffixes that are longer, together with their prompts, than the model answers.

        Raises:
            UserError: this model takes no suffix.
        """
        if not self.fills_in:
            raise UserError(NOTHING_TO_FILL)
        sides = [tf.constant(list(texts), tf.string) for texts in (prompts, suffixes)]
        errors = self.suffix_errors(*sides).numpy()
        return [(index, error.decode("utf-8")) for index, error in enumerate(errors) if error]

    def suffix_errors(self, prompt: Any, suffix: Any) -> tf.Tensor:
        """Messages [B] about suffixes [B] as `suffix_faults` has them; "" for the others.

        Args:
            prompt: strings [B].
            suffix: strings [B].
        """
        most = self.spec.max_input
        alone = [self.target.too_long(text, most) for text in (prompt, suffix)]
        # A text that is too long by itself is not split once more.
        short = [tf.where(tf.equal(error, ""), text, "") for error, text in zip(alone, (prompt, suffix), strict=True)]
        counts = [tf.cast(self.target.ids(text, end=False).row_lengths(), tf.int32) for text in short]
        count = counts[0] + counts[1] + len(INFILLING_TOKENS) + 1
        before, after = too_many_tokens(most)
        together = tf.strings.join([before, tf.strings.as_string(count), after, "; its prompt counts"])
        return tf.where(tf.equal(alone[1], ""), tf.where(count > most, together, ""), alone[1])

    def search(self, given: SourceInputs, with_attention: bool = False) -> Hypotheses:
        """Finds the `n_best` best hypotheses for sources, after all external scorers."""
        return self.external.rank(self.decoding.search(self._begun(given), with_attention), self.spec.n_best)

    def texts(self, *raw: Any, prefix: Any = None, seeds: Any = None, suffix: Any = None) -> dict[str, tf.Tensor]:
        """Raw tensors to the best outputs: "text" [B, N], "score" [B, N] (what they are ranked by) and "log_prob".

        "cut" [B, N] tells of each output whether it may have been cut off, see `may_be_cut`. Where a source is empty,
        the texts are empty and the scores 0.

        Args:
            raw: the tensors of `signature`.
            prefix: strings [B] that the outputs begin with.
            seeds: [B, 2] int32, which determine what is drawn for each input; None for (search.seed, 0).
            suffix: strings [B] that the outputs end with: what is between prompt and suffix is filled in.
        """
        given = self.given(*raw, prefix=prefix, seeds=seeds, suffix=suffix)
        found = self.search(given)
        empty = tf.expand_dims(given.empty, 1)
        text = self._shown(given, found.ids, self.cut)
        is_cut = tf.logical_and(tf.logical_not(empty), self.may_be_cut(found))
        if self.stops:
            # An output that a stop string ends is whole.
            is_cut = tf.logical_and(is_cut, tf.equal(text, self._shown(given, found.ids, "")))
        return {
            "text": tf.where(empty, "", self.rules(text)),
            "score": tf.where(empty, 0.0, found.scores),
            "log_prob": tf.where(empty, 0.0, found.log_probs),
            "cut": is_cut,
        }

    def _shown(self, given: SourceInputs, ids: Any, cut: str) -> tf.Tensor:
        """The texts of outputs [B, N, L] without what a regular expression cuts."""
        lengths = self.prompt_lengths(given, ids)
        if given.around is None:
            return self.target.detokenize(ids, lengths, cut, given.words)
        shape = tf.shape(ids)[:2]
        sides = [tf.broadcast_to(side[:, tf.newaxis], [*tf.unstack(shape), tf.shape(side)[1]]) for side in given.around]
        return self.target.filled_in(ids, lengths, cut, *sides)

    @property
    def fills_in(self) -> bool:
        """Whether `texts` takes a suffix."""
        return self.source.fills_in

    def given(self, *raw: Any, prefix: Any = None, seeds: Any = None, suffix: Any = None) -> SourceInputs:
        """What the search is given; arguments as for `texts`.

        Raises:
            UserError: this model takes no prefix, or no suffix.
        """
        if suffix is not None:
            if not self.fills_in:
                raise UserError(NOTHING_TO_FILL)
            (prompts,) = raw
            return self.source.with_suffix(prompts, suffix)._replace(seeds=seeds)
        given = self.source.inputs(*raw)._replace(seeds=seeds)
        if prefix is None:
            return self._begun(given)
        if not self.decoding.takes_prefix:
            raise UserError("--prefix: needs a decoder that writes token by token; this search has none")
        if given.prefix is not None:
            raise UserError("--prefix: must be left out, as the inputs of a language model are prompts")
        return given._replace(prefix=self.prefix_ids(prefix, given))

    def _begun(self, given: SourceInputs) -> SourceInputs:
        """What the search is given, with the begin tokens of the target where outputs have no other prefix."""
        if not self.begin or given.prefix is not None or not self.decoding.takes_prefix:
            return given
        return given._replace(prefix=tf.repeat(tf.constant([self.begin]), tf.shape(given.empty)[0], axis=0))

    def seed_pairs(self, seed: Any) -> tf.Tensor:
        """Seeds [B], below 0 for that of the search, as `texts` takes them, [B, 2]."""
        return tf.stack([tf.where(seed < 0, self.spec.seed, seed), tf.zeros_like(seed)], axis=1)

    @property
    def cut(self) -> str:
        """The regular expression for the stop string and what follows it; "" without stop strings."""
        return cut_pattern(self.stops.strings) if self.stops else ""

    def prompt_lengths(self, given: SourceInputs, ids: Any) -> Any:
        """How many of the first tokens of outputs [B, N, L] are a prompt, [B, N]; None without prompts."""
        lengths = prompt_lengths(given.prefix)
        return None if lengths is None else tf.repeat(tf.expand_dims(lengths, 1), tf.shape(ids)[1], axis=1)

    def may_be_cut(self, found: Hypotheses) -> tf.Tensor:
        """Whether hypotheses [B, N] are as long as the search lets them be, bool.

        At that length a decoder that writes <eos> is allowed no other token, and a search without <eos> adds none.
        """
        count = tf.reduce_sum(tf.cast(tf.not_equal(found.ids, PAD), tf.int32), axis=2)
        limits = self.spec.max_length if found.limits is None else tf.expand_dims(found.limits, 1)
        return count >= limits

    def prefix_ids(self, prefix: Any, given: SourceInputs) -> tf.Tensor:
        """Strings [B] that outputs for sources begin with to ids [B, P] without <eos>, padded.

        Those of an empty string are the begin tokens of the target, if it has any.
        """
        ids = self.source.target_ids(self.target, prefix, given, end=False)
        if not self.begin:
            return ids.to_tensor(PAD)
        counts = tf.where(ids.row_lengths() > 0, tf.constant(0, tf.int64), len(self.begin))
        begins = tf.tile(tf.constant(self.begin), [tf.reduce_sum(counts) // len(self.begin)])
        return tf.concat([tf.RaggedTensor.from_row_lengths(begins, counts, validate=False), ids], axis=1).to_tensor(PAD)

    def log_probabilities(self, *raw_and_target: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Log-probabilities in nats of target strings [B] given raw sources, [B], and the tokens they count, [B].

        Begin tokens of the target are given, and do not count.

        Args:
            raw_and_target: the tensors of `signature`, and strings [B].
        """
        *raw, target = raw_and_target
        given = self.source.inputs(*raw)
        return self.decoding.log_probabilities(given.inputs, self.labels(target, given))

    def labels(self, target: Any, given: SourceInputs) -> tf.Tensor:
        """Target strings [B] of sources to ids [B, T] that end with <eos>, padded."""
        ids = self.source.target_ids(self.target, target, given)
        # No string at all has a width too, as the text features give it.
        return ids.to_tensor(PAD, shape=tf.stack([-1, tf.maximum(ids.bounding_shape(axis=1), 1)]))


def _stop_strings(search: SearchSpec, target: TextFeatures) -> StopStrings | None:
    """The stop strings of a search.

    Raises:
        UserError: the vocabulary lacks a character of one, which would never be written.
    """
    if not search.stop_strings:
        return None
    written = [target.writable(text) for text in search.stop_strings]
    characters = target.characters()
    for number, text in enumerate(written):
        odd = next((letter for letter in text if characters is not None and letter not in characters), "")
        if odd or unicode_form(text, target.spec) != text and not target.spec.compose:
            reason = f"the target vocabulary has no {odd!r}" if odd else "target text is normalized otherwise"
            raise UserError(f"search.stop_strings[{number}]: {reason}, so {text!r} is never written; give another text")
    return StopStrings(written, target.surfaces)


def _suppression(search: SearchSpec, target: TextFeatures) -> Suppression | None:
    """The tokens that a search does not write.

    Raises:
        UserError: the vocabulary lacks one.
    """
    ids = {token: index for index, token in enumerate(target.vocabulary.tokens)}
    found: list[list[int]] = []
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        tokens = getattr(search, name)
        for number, token in enumerate(tokens):
            if token not in ids:
                raise UserError(f"search.{name}[{number}]: must be a token of the target vocabulary, got {token!r}")
        found.append([ids[token] for token in tokens])
    never, at_begin = found
    return Suppression(never, at_begin, target.size) if never or at_begin else None


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


class LanguageModel(Predictor):
    """Prompts to texts that begin with them.

    Args:
        models: one, or several that are averaged.
        target: text features of prompts and texts.
        search: how texts are continued.
    """

    def __init__(self, models: Sequence[Any], target: TextFeatures, search: SearchSpec):
        super().__init__(models, NoSource(NoSourceSpec()), target, search)
