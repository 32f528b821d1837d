"""What training needs of its data, for text and for speech: vocabularies, batches, a start, a score of outputs."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import (
    CorpusReport,
    batch_by_tokens,
    filter_pairs,
    shuffled_epochs,
    tokenize,
    training_example,
)
from tfseq2seq.data.corpora import iterate_side, line_corpora, training_corpora
from tfseq2seq.data.recordings import SpeechReport, batch_by_seconds, filter_utterances, speech_corpora, speech_example
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary, load_vocabulary
from tfseq2seq.features.word_vectors import embedding_matrix, read_vectors
from tfseq2seq.files import expanded_path
from tfseq2seq.inference.endpoints import endpoint
from tfseq2seq.inference.generator import Generator
from tfseq2seq.models.seq2seq import Seq2Seq
from tfseq2seq.run import Run
from tfseq2seq.spec import AudioSpec, DataSpec, Recipe, SearchSpec, TextSpec, TransducerDecoderSpec

Score = Callable[[], float]
Batches = tuple[tf.data.Dataset, tf.data.Dataset]
# Recordings that the statistics of global normalization are taken from: far more than their precision needs.
_ADAPTED_TO = 2000


class TextTask:
    """Pairs of lines."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.corpora = recipe, training_corpora(recipe.data, recipe.seed)

    def learn_features(self) -> tuple[TextFeatures, TextFeatures]:
        """Text features of both sides, one object where the vocabulary is shared."""
        return learn_features(self.recipe, self.corpora.held)

    def batches(self, run: Run, model: Any, log: Any) -> Batches:
        """Training batches without end, shuffled anew each epoch, and the validation corpus once."""
        batches, report = training_batches(self.corpora.train, run, self.recipe.data)
        log(f"training: {report}")
        validation, report = validation_batches(self.corpora.validation, run, self.recipe.data)
        log(f"validation: {report}")
        return batches, validation

    def prepare(self, model: Any, run: Run, batches: tf.data.Dataset, log: Any) -> None:
        """Starts embeddings from vector files where the recipe names some."""
        load_vectors(model, run, log)

    def score(self, model: Any, run: Run) -> Score:
        """A function that generates the targets of validation pairs greedily and scores them as the monitor asks."""
        pairs = _first(self.corpora.validation, run.recipe.training.generate_pairs)
        chunks = list(pairs.batch(2048).as_numpy_iterator())
        sources, references = ([line.decode() for chunk in chunks for line in chunk[side]] for side in (0, 1))
        return _generated_score(model, run, sources, references)


class LanguageTask:
    """Lines of text, for a language model."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.corpora = recipe, line_corpora(recipe.data, recipe.seed)

    def learn_features(self) -> tuple[None, TextFeatures]:
        """There is no source; text features of the target."""
        lines = iterate_side(self.recipe.data.train, "target", self.corpora.held)
        return None, _learned("target", self.recipe.target, lines)

    def batches(self, run: Run, model: Any, log: Any) -> Batches:
        """Training batches without end, shuffled anew each epoch, and the validation corpus once."""
        spec = self.recipe.data
        parts = []
        for name, lines in (("training", self.corpora.train), ("validation", self.corpora.validation)):
            kept, report = filter_pairs(tokenize(run.target, run.target)(lines), spec, f"data.{name}")
            log(f"{name}: {report.kept:,} lines, {report.target_tokens:,} tokens")
            parts.append((kept, report.kept))
        (train, count), (validation, _) = parts
        shuffled = shuffled_epochs(train, count, spec, self.recipe.seed)
        batches = batch_by_tokens(spec)(shuffled).map(_language_example).prefetch(8)
        return batches, _sized(batch_by_tokens(spec)(validation).map(_language_example).cache())

    def prepare(self, model: Any, run: Run, batches: tf.data.Dataset, log: Any) -> None:
        """Nothing."""

    def score(self, model: Any, run: Run) -> Score:
        raise UserError("training.monitor: a language model generates nothing to score; monitor the loss")


class SpeechTask:
    """Recordings and their transcripts."""

    def __init__(self, recipe: Recipe):
        assert isinstance(recipe.source, AudioSpec)
        self.recipe, self.source = recipe, recipe.source
        self.corpora = speech_corpora(recipe.data, self.source.sample_rate, recipe.seed)

    def learn_features(self) -> tuple[None, TextFeatures]:
        """There is no source vocabulary; text features of the transcripts."""
        return None, _learned("target", self.recipe.target, self.corpora.texts())

    def batches(self, run: Run, model: Any, log: Any) -> Batches:
        """Training batches without end, shuffled anew each epoch, and the validation corpus once."""
        spec, rate = self.recipe.data, self.source.sample_rate
        train, report = self._usable(self.corpora.train, self.corpora.train_faults, "data.train", run, model)
        log(f"training: {report}")
        validation, checked = self._usable(
            self.corpora.validation, self.corpora.validation_faults, "data.validation", run, model
        )
        log(f"validation: {checked}")
        attends, transduces = model.spec.attends, isinstance(model.spec.decoder, TransducerDecoderSpec)
        example = speech_example(attends, attends or transduces, transduces or model.spec.has_ctc)
        shuffled = shuffled_epochs(train, report.kept, spec, self.recipe.seed)
        batches = batch_by_seconds(spec, rate)(shuffled).map(example).prefetch(4)
        return batches, _sized(batch_by_seconds(spec, rate)(validation).map(example).cache())

    def prepare(self, model: Any, run: Run, batches: tf.data.Dataset, log: Any) -> None:
        """Sets the statistics of global normalization from the first training recordings."""
        features = model.frontend.features
        if features.adapted:
            return
        count, total, squares = 0.0, np.zeros(self.source.frame_width), np.zeros(self.source.frame_width)
        measure = tf.function(features.unnormalized, reduce_retracing=True)
        heard = 0
        for inputs, *_ in batches:
            frames, lengths = measure(inputs["source"], inputs["source_length"])
            values = np.asarray(frames, "float64")
            count += float(tf.reduce_sum(lengths))
            total += values.sum(axis=(0, 1))
            squares += np.square(values).sum(axis=(0, 1))
            heard += len(values)
            if heard >= _ADAPTED_TO:
                break
        features.adapt_statistics(count, total, squares)
        log(f"global normalization: from {heard:,} recordings, {count:,.0f} frames")

    def score(self, model: Any, run: Run) -> Score:
        """A function that transcribes validation recordings greedily and scores them by the recipe's monitor."""
        chosen = list(_first(self.corpora.validation, run.recipe.training.generate_pairs).as_numpy_iterator())
        references = [text.decode("utf-8") for _, text, _ in chosen]
        return _generated_score(model, run, [samples for samples, _, _ in chosen], references)

    def _usable(
        self, utterances: tf.data.Dataset, faults: Any, name: str, run: Run, model: Any
    ) -> tuple[tf.data.Dataset, SpeechReport]:
        def positions(samples: Any) -> Any:
            return model.encoder.positions(model.frontend.positions(samples))

        rate = self.source.sample_rate
        return filter_utterances(
            utterances, run.target, self.recipe.data, rate, name, positions, model.spec.has_ctc, faults
        )


def open_task(recipe: Recipe) -> TextTask | LanguageTask | SpeechTask:
    """Opens and checks the corpora of a recipe."""
    if recipe.model.is_language_model:
        return LanguageTask(recipe)
    return SpeechTask(recipe) if isinstance(recipe.source, AudioSpec) else TextTask(recipe)


def learn_features(recipe: Recipe, held: Container[int] = ()) -> tuple[TextFeatures, TextFeatures]:
    """Text features of both sides, their vocabularies learned from the training corpus or read from where it says.

    Args:
        recipe: names the corpus and the schemes.
        held: places of training pairs kept for validation, which nothing is learned from.
    """

    def features(spec: TextSpec, *sides: str) -> TextFeatures:
        lines = (line for side in sides for line in iterate_side(recipe.data.train, side, held))
        return _learned(sides[0], spec, lines)

    assert isinstance(recipe.source, TextSpec)
    if recipe.share_vocabulary:
        both = features(recipe.source, "source", "target")
        return both, both
    return features(recipe.source, "source"), features(recipe.target, "target")


def _learned(side: str, spec: TextSpec, lines: Iterable[bytes]) -> TextFeatures:
    """Text features of a side, with the vocabulary file its spec names or one learned from lines."""
    try:
        if spec.vocabulary:
            vocabulary = load_vocabulary(expanded_path(spec.vocabulary), spec)
        else:
            vocabulary = learn_vocabulary(lines, spec)
    except UserError as error:
        raise UserError(f"{side}: {error}") from None
    return TextFeatures(spec, vocabulary)


def training_batches(pairs: tf.data.Dataset, run: Run, spec: DataSpec) -> tuple[tf.data.Dataset, CorpusReport]:
    """Batches of pairs of lines without end, shuffled anew each epoch, and what the corpus holds."""
    kept, report = filter_pairs(tokenize(run.source, run.target)(pairs), spec, "data.train")
    shuffled = shuffled_epochs(kept, report.kept, spec, run.recipe.seed)
    return batch_by_tokens(spec)(shuffled).map(training_example).prefetch(8), report


def validation_batches(pairs: tf.data.Dataset, run: Run, spec: DataSpec) -> tuple[tf.data.Dataset, CorpusReport]:
    """Pairs of lines once, in batches."""
    kept, report = filter_pairs(tokenize(run.source, run.target)(pairs), spec, "data.validation")
    return _sized(batch_by_tokens(spec)(kept).map(training_example).cache()), report


def load_vectors(model: Seq2Seq, run: Run, log: Any = print) -> None:
    """Starts embeddings from the vector files the recipe names; tokens without a vector keep a random one."""
    spec, seed = run.recipe.model, run.recipe.seed
    sides: Any = (
        (spec.source_vectors, run.source, model.source_embedding, "source"),
        (spec.target_vectors, run.target, model.target_embedding, "target"),
    )
    for path, features, embedding, side in sides:
        if path and features is not None:
            tokens = features.vocabulary.tokens
            # Files are of unit deviation, more or less; the model's embeddings are scaled by width^0.5 when read.
            matrix, found = embedding_matrix(
                tokens, read_vectors(expanded_path(path), set(tokens)), spec.width, seed, spec.width**-0.5
            )
            embedding.embeddings.assign(matrix)
            log(f"{side} vectors: {found:,} of {len(tokens):,} tokens found in {path}")


def _generated_score(model: Any, run: Run, sources: list[Any], references: list[str]) -> Score:
    spec = run.recipe.training
    search = SearchSpec(beam=1, max_length=run.recipe.search.max_length, max_ratio=run.recipe.search.max_ratio)
    generator = Generator(endpoint([model], run.source, run.target, search))

    def score() -> float:
        outputs = [output.texts[0] for output in generator.generate(sources)]
        return corpus_scores(outputs, [references], [spec.monitor], bootstrap=0)[0].value

    return score


def _language_example(source: tf.Tensor, target: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
    inputs, labels, weights = training_example(source, target)
    return {"target": inputs["target"]}, labels, weights


def _first(examples: tf.data.Dataset, count: int) -> tf.data.Dataset:
    return examples.take(count) if count else examples


def _sized(batches: tf.data.Dataset) -> tf.data.Dataset:
    # Keras takes the end of a dataset of unknown size for a shortage of data, and warns.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches)))
