"""Batches for `fit`, and scores of generated text, from the corpora of a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tfseq2seq.data.segments import BatchStream, Segments, Units
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.progress import progress_bar
from tfseq2seq.run import Run
from tfseq2seq.sources import Corpora, Report
from tfseq2seq.spec import SearchSpec
from tfseq2seq.training.objectives import Objective

Log = Callable[[str], None]


class TrainingBatches:
    """Batches to train on, from any position, and to validate with.

    Args:
        stream: the batches of the training corpus.
        example: from a batch to inputs, labels and sample weights.
        accumulate: the number of batches of an update.
        prefetch: the number of batches that are prepared ahead.
        validation: the batches of the validation corpus.
    """

    def __init__(
        self,
        stream: BatchStream,
        example: Callable[[Any], Any],
        accumulate: int,
        prefetch: int,
        validation: tf.data.Dataset,
    ):
        self.stream, self.example, self.accumulate = stream, example, accumulate
        self.prefetch, self.validation = prefetch, validation

    def dataset(self, position: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        """Opens endless training batches, shuffled anew in each epoch.

        `training.optimizer.accumulate` batches make an update.

        Args:
            position: where to begin, from `position`; None for the beginning.

        Raises:
            UserError: the position is not valid, or a file of the training corpus is missing or damaged.
        """
        batches = accumulated(self.stream.dataset(position).map(self.example), self.accumulate)
        return batches.prefetch(self.prefetch)

    def position(self, count: int) -> dict[str, Any]:
        """Returns the position after `count` batches drawn from the dataset that was opened last, as values for JSON.

        The dataset that begins there continues with the same batches.

        Args:
            count: the number of batches, a multiple of those of an update.
        """
        if count % self.accumulate:
            raise ValueError(f"a position lies between updates of {self.accumulate} batches, got {count} batches")
        return self.stream.position(count)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raises `UserError` for errors inside that come from files of the training corpus.

        TensorFlow gives their text in an error of its own.
        """
        try:
            yield
        except tf.errors.OpError:
            if self.stream.fault is None:
                raise
            raise self.stream.fault from None


def build_batches(corpora: Corpora, run: Run, model: Any, objective: Objective, log: Log) -> TrainingBatches:
    """Returns the batches of the training and the validation corpus.

    Raises:
        UserError: a corpus has no usable example.
    """
    source, spec = run.source, run.recipe.data
    stream = _training_stream(corpora, run, model, objective, log)
    noted = corpora.faults.get("validation")
    kept, report = source.filter_examples(
        corpora.validation, run.target, spec, "data.validation", model, objective.aligned, noted
    )
    log(f"validation: {report}")
    validation = _sized(source.batch(spec)(kept).map(objective.example).cache())
    accumulate = run.recipe.training.optimizer.accumulate
    return TrainingBatches(stream, objective.example, accumulate, source.prefetch, validation)


def _training_stream(corpora: Corpora, run: Run, model: Any, objective: Objective, log: Log) -> BatchStream:
    """Reads the training corpus if it is kept in memory, and tells what was left out of it, now or after an epoch."""
    source, spec, seed = run.source, run.recipe.data, run.recipe.seed
    units = corpora.units or Units.whole(corpora.train, corpora.faults.get("train"))
    # A segment that is read during the training shows no bar: the training has one.
    shown: list[Callable[[int], None]] = [lambda count: None]

    collect = source.collector(
        units.examples,
        run.target,
        spec,
        "data.train",
        model,
        objective.aligned,
        units.noted,
        lambda count: shown[-1](count),
    )
    segments = Segments(units, source.most_together(spec) if corpora.units else 0, collect, seed)
    if segments.whole:
        with progress_bar("reading data.train") as advance:
            shown.append(advance)
            _, report = segments.read(segments.of_epoch(0)[0])
        shown.pop()
        if not report.kept:
            raise UserError(f"data.train: no example is left to use: {report}")
        log(f"training: {report}")
    else:
        log(
            f"training: {sum(units.sizes):,} examples, read in {len(segments.of_epoch(0)):,} segments; after the first "
            "epoch it is told what was left out"
        )

    def told(report: Report) -> None:
        log(f"training, first epoch: {report}")

    batch = source.batch(spec)
    return BatchStream(segments, batch.bounds, batch.sizes, spec.shuffle_pairs, seed, "data.train", told)


def accumulated(examples: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Scales sample weights so that the mean of the gradients of `count` batches is that of the joined batch.

    The loss of a batch is a mean over its tokens. In the joined batch each token has the same weight, so a batch with n
    of the N tokens of a group is scaled by `count` n / N.

    Args:
        examples: inputs, labels and sample weights; the sum of the weights of a batch is its number of tokens.
        count: the number of batches in a group.
    """
    if count == 1:
        return examples

    def scaled(inputs: Any, labels: Any, weights: Any) -> tf.data.Dataset:
        group = tf.data.Dataset.zip((inputs, labels, weights))
        tokens = group.map(lambda inputs, labels, weights: tf.nest.map_structure(tf.reduce_sum, weights))
        zeros = tf.nest.map_structure(lambda _: 0.0, examples.element_spec[2])
        totals = tokens.reduce(zeros, lambda total, own: tf.nest.map_structure(tf.add, total, own))

        def share(weights: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
            return weights * (count * tf.reduce_sum(weights) / tf.maximum(total, 1.0))

        return group.map(
            lambda inputs, labels, weights: (inputs, labels, tf.nest.map_structure(share, weights, totals))
        )

    return examples.window(count).flat_map(scaled)


def generated_score(corpora: Corpora, run: Run, model: Any) -> Callable[[], float]:
    """Returns a function that generates text for the validation sources and computes the monitored metric.

    The text is generated with greedy search.
    """
    spec, search = run.recipe.training, run.recipe.search
    examples = corpora.validation.take(spec.generate_pairs) if spec.generate_pairs else corpora.validation
    sources, references = run.source.values(examples)
    greedy = SearchSpec(beam=1, max_length=search.max_length, max_ratio=search.max_ratio)
    generator = Generator(Predictor([model], run.source, run.target, greedy))

    def score() -> float:
        outputs = [output.texts[0] for output in generator.generate(sources)]
        return corpus_scores(outputs, [references], [spec.monitor], bootstrap=0)[0].value

    return score


def _sized(batches: tf.data.Dataset) -> tf.data.Dataset:
    # If the size of a dataset is unknown, Keras warns at its end that it ran out of data.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches)))
