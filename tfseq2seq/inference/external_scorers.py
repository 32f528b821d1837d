"""What a recipe's `search.fusion` names, loaded: language models and phrases that rank hypotheses beside the model."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import decoder_input
from tfseq2seq.errors import UserError
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.files import expanded_path, read_lines
from tfseq2seq.run import Run
from tfseq2seq.search.arpa import read_arpa
from tfseq2seq.search.automata import token_bonus
from tfseq2seq.search.beam import Hypotheses
from tfseq2seq.search.fusion import Fusion, Scorer
from tfseq2seq.search.neural import NeuralScorer
from tfseq2seq.search.ngram import ngram_scorer
from tfseq2seq.search.phrases import phrase_scorer
from tfseq2seq.search.rescoring import WholeScorer, rescored
from tfseq2seq.spec import BOS, PAD, UNK, SearchSpec

# The largest file of phrases in bytes, and the largest weight in it, which is a factor of search.fusion.phrases_weight.
_LARGEST_FILE, _LARGEST_WEIGHT = 1 << 24, 1_000_000
# Tokenized at a time.
_LINES = 2048


@dataclass
class ExternalScorers:
    """What ranks hypotheses beside the model.

    Attributes:
        fusion: as they grow.
        after: once they are complete, token by token.
        whole: once they are complete, all tokens at once.
        parts: what holds variables, for exported models to keep.
        wanted: ids of all phrases' tokens, which a shortlist must not keep away.
    """

    fusion: Fusion = field(default_factory=Fusion)
    after: Fusion = field(default_factory=Fusion)
    whole: list[WholeScorer] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    wanted: set[int] = field(default_factory=set)

    @property
    def come_after(self) -> bool:
        return bool(self.after or self.whole)

    def rank(self, found: Hypotheses, count: int) -> Hypotheses:
        """The `count` best hypotheses of a search after all external scorers."""
        return rescored(found, count, self.after, self.whole) if self.come_after else found


def load_external_scorers(search: SearchSpec, target: TextFeatures) -> ExternalScorers:
    """Reads what `search.fusion` names; what has weight 0 is not read.

    Raises:
        UserError: a file or run is missing or damaged, or is of another vocabulary.
    """
    spec, found = search.fusion, ExternalScorers()
    models: list[tuple[Scorer, float]] = []
    tokens = target.vocabulary.tokens
    if spec.ngram and spec.ngram_weight:
        path = expanded_path(spec.ngram)
        models.append((ngram_scorer(read_arpa(path), tokens, path), spec.ngram_weight))
    if spec.token_bonus:
        models.append((token_bonus(target.size), spec.token_bonus))
    found.parts += [scorer for scorer, _ in models]
    if spec.model and spec.model_weight:
        _add_model(found, models, search, target)
    phrases: list[tuple[Scorer, float]] = []
    if spec.phrases and spec.phrases_weight:
        scorer, found.wanted = _phrases(expanded_path(spec.phrases), target)
        phrases.append((scorer, spec.phrases_weight))
        found.parts.append(scorer)
    found.fusion = Fusion(phrases if spec.rescore else [*models, *phrases])
    found.after = Fusion(models if spec.rescore else [])
    return found


def _add_model(
    found: ExternalScorers, models: list[tuple[Scorer, float]], search: SearchSpec, target: TextFeatures
) -> None:
    """Adds the neural language model, inside the search or after it."""
    spec = search.fusion
    run = Run.open(expanded_path(spec.model))
    if "source" in run.recipe.provides:
        raise UserError(
            f"search.fusion.model: must be a language model (source.kind none), and {spec.model} has a source"
        )
    if run.target.vocabulary != target.vocabulary:
        raise UserError(
            f"search.fusion.model: {spec.model} has another vocabulary; train it with target.vocabulary set to that of "
            "the model it is to help, RUN/vocabulary/target.txt"
        )
    model = run.load_model()
    found.parts.append(model)
    if spec.rescore:
        found.whole.append((lambda labels: sequence_log_probs(model, labels), spec.model_weight))
    elif not model.decoder.parallel:
        models.append((NeuralScorer(*_state_functions(model)), spec.model_weight))
    else:
        raise UserError(
            "search.fusion.model: a Transformer language model ranks complete hypotheses only; set "
            "search.fusion.rescore, or take a recurrent one"
        )


def _state_functions(model: Any) -> tuple[Callable[[Any], list[Any]], Callable[..., tuple[Any, list[Any]]]]:
    """A recurrent language model as `NeuralScorer` takes it: its states before the first token, and its step."""

    def start(ids: Any) -> tuple[Any, Any]:
        return model.start(model.encode({"target": ids}), 1, 1)

    def begin(rows: Any) -> list[Any]:
        _, cache = start(tf.fill([rows, 1], BOS))
        return [tf.squeeze(state, 1) for state in cache["state"]["cells"]]

    def step(ids: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        ids = tf.expand_dims(ids, 1)
        fixed, cache = start(ids)
        cache["state"]["cells"] = [tf.expand_dims(state, 1) for state in states]
        logits, cache, _ = model.step(ids, 0, None, fixed, cache)
        return tf.squeeze(logits, 1), [tf.squeeze(state, 1) for state in cache["state"]["cells"]]

    return begin, step


def sequence_log_probs(model: Any, labels: Any) -> tf.Tensor:
    """Log-probabilities [B] in nats of labels [B, T], <eos> included, by a language model."""
    logits = model({"target": decoder_input(labels)}, training=False)
    log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    each = tf.gather(log_probs, labels, batch_dims=2)
    return tf.reduce_sum(tf.where(tf.not_equal(labels, PAD), each, 0.0), axis=1)


def tokens_of(target: TextFeatures, lines: Sequence[str]) -> list[list[str]]:
    """Lines of text as the vocabulary's tokens."""
    tokens = target.vocabulary.tokens
    return [[tokens[index] for index in line] for line in ids_of(target, lines)]


def ids_of(features: TextFeatures, lines: Sequence[str]) -> Iterator[list[int]]:
    """Lines of text as ids, without <eos>."""
    for begin in range(0, len(lines), _LINES):
        yield from features.ids(tf.constant(lines[begin : begin + _LINES]), end=False).to_list()


def _phrases(path: str, target: TextFeatures) -> tuple[Scorer, set[int]]:
    """The scorer of a file with a phrase, and after a tab its weight where it has one, on each line; and their ids."""
    phrases, weights = [], []
    for number, line in enumerate(read_lines(path, _LARGEST_FILE), start=1):
        phrase, tab, weight = line.partition("\t")
        if not phrase.strip():
            continue
        try:
            weights.append(float(weight) if tab else 1.0)
        except ValueError:
            raise UserError(f"{path}, line {number}: {weight[:50]!r} after the tab is no weight") from None
        # An infinite bonus makes every output the phrase, and scores that are no numbers.
        if not 0 <= weights[-1] <= _LARGEST_WEIGHT:
            raise UserError(
                f"{path}, line {number}: the weight after the tab must be from 0 to {_LARGEST_WEIGHT:,}, got {weight}"
            )
        phrases.append(phrase)
    if not phrases:
        raise UserError(f"{path}: holds no phrase")
    opening = _opening(target)
    ids = target.tokenize(tf.constant(phrases)).to_list()
    for phrase, tokens in zip(phrases, ids):
        if UNK in tokens:
            raise UserError(f"{path}: {phrase!r} has characters that are not in the vocabulary; it can never be found")
    weighted = [
        ([*(opening if _has_word_ends(phrase) else ()), *tokens], weight)
        for phrase, tokens, weight in zip(phrases, ids, weights)
        if tokens
    ]
    return phrase_scorer(weighted, target.size, opening), {token for tokens, _ in weighted for token in tokens}


def _opening(target: TextFeatures) -> Sequence[int]:
    """The token of a space, with which words begin where spaces are tokens of their own."""
    if target.spec.scheme not in ("characters", "bytes"):
        return ()
    spaced = target.tokenize(tf.constant(["x x"])).to_list()[0]
    return (spaced[1],) if len(spaced) == 3 and spaced[1] != UNK else ()


def _has_word_ends(phrase: str) -> bool:
    """Whether its script puts spaces between words: what is as wide as it is high does not."""
    return unicodedata.east_asian_width(phrase.strip()[0]) not in "WF"
