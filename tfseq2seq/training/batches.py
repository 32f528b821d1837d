"""Batches for `fit`, and scores of generated text, from the corpora of a recipe."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.segments import BatchStream, Segments, Units
from tfseq2seq.data.service import ServiceStream
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.progress import progress_bar
from tfseq2seq.run import Run
from tfseq2seq.sources import Corpora, Filtering, Report
from tfseq2seq.spec import DataSpec, SearchSpec
from tfseq2seq.training.backends import compiles_shapes
from tfseq2seq.training.distribution import Distribution
from tfseq2seq.training.global_batch import few_shapes, globally_weighted
from tfseq2seq.training.objectives import Objective

Log = Callable[[str], None]
# So many batches are looked at to tell of their shapes.
_SHAPES_FROM = 200


class TrainingBatches:
    """Batches to train on, from any position, and to validate with.

    Args:
        stream: the batches of the training corpus.
        example: from a batch to inputs, labels and sample weights.
        accumulate: the number of batches of an update.
        prefetch: the number of batches that are prepared ahead.
        validation: the batches of the validation corpus.
        shape: pads inputs, labels and sample weights to a shape that is compiled once, or None.
    """

    def __init__(
        self,
        stream: BatchStream | ServiceStream,
        example: Callable[[Any], Any],
        accumulate: int,
        prefetch: int,
        validation: tf.data.Dataset,
        shape: Callable[..., Any] | None = None,
    ):
        self.stream, self.example, self.accumulate = stream, example, accumulate
        self.prefetch, self.validation, self.shape = prefetch, validation, shape

    def dataset(self, position: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        """Opens endless training batches, shuffled anew in each epoch.

        `training.optimizer.accumulate` batches make an update.

        Args:
            position: where to begin, from `position`; None for the beginning.

        Raises:
            UserError: the position is not valid, or a file of the training corpus is missing or damaged.
        """
        batches = globally_weighted(self.stream.dataset(position).map(self.example), self.accumulate)
        return (batches.map(self.shape) if self.shape else batches).prefetch(self.prefetch)

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
    source = run.source
    spec = dataclasses.replace(run.recipe.data, shapes="few" if compiles_shapes(run.recipe) else "exact")
    stream = _training_stream(corpora, run, spec, model, objective, log)
    faults = corpora.faults.get("validation")
    filtering = _filtering(run, spec, "data.validation", model, objective, faults)
    kept, report = source.filter_examples(corpora.validation, filtering)
    log(f"validation: {report}")
    batch, shape = source.batch(spec), None
    validation = globally_weighted(batch(kept).map(objective.example))
    if spec.shapes == "few":
        shape = few_shapes(batch.bounds, batch.sizes)
        validation = validation.map(shape)
    accumulate = run.recipe.training.optimizer.accumulate
    batches = TrainingBatches(stream, objective.example, accumulate, source.prefetch, _sized(validation.cache()), shape)
    if shape:
        log(_shapes_told(batches.dataset()))
    return batches


def _filtering(run: Run, spec: DataSpec, name: str, model: Any, objective: Objective, faults: Any) -> Filtering:
    return Filtering(run.target, spec, name, model, objective.aligned, faults, run.recipe.max_input)


def _shapes_told(batches: tf.data.Dataset) -> str:
    """Tells how many shapes the first batches have, and how much of them is padding."""
    shapes: set[tuple[Any, ...]] = set()
    real = positions = 0
    for inputs, labels, weights in batches.take(_SHAPES_FROM).as_numpy_iterator():
        shapes.add(tuple(value.shape for value in tf.nest.flatten((inputs, labels))))
        weight = tf.nest.flatten(weights)[0]
        real, positions = real + int(np.count_nonzero(weight)), positions + int(weight.size)
    what = "target positions are tokens" if len(weight.shape) > 1 else "rows are examples"
    return (
        f"data.shapes few: {len(shapes)} shapes in the first {_SHAPES_FROM} batches, each of which is compiled once; "
        f"{real / positions:.0%} of their {what}, the rest is padding"
    )


def _training_stream(
    corpora: Corpora, run: Run, spec: DataSpec, model: Any, objective: Objective, log: Log
) -> BatchStream | ServiceStream:
    """Reads the training corpus if it is kept in memory, and tells what was left out of it, now or after an epoch."""
    source, seed = run.source, run.recipe.seed
    if spec.service:
        return _served_stream(corpora, run, spec, model, objective, log)
    units = corpora.units or Units.whole(corpora.train, corpora.faults.get("train"))
    # A segment that is read during the training shows no bar: the training has one.
    shown: list[Callable[[int], None]] = [lambda count: None]

    filtering = _filtering(run, spec, "data.train", model, objective, units.noted)
    collect = source.collector(units.examples, filtering, lambda count: shown[-1](count))
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
    return BatchStream(
        segments,
        batch.bounds,
        batch.sizes,
        spec.shuffle_pairs,
        seed,
        "data.train",
        told,
        source.rearrangement(run.target, spec),
    )


def _served_stream(
    corpora: Corpora, run: Run, spec: DataSpec, model: Any, objective: Objective, log: Log
) -> ServiceStream:
    """The batches of a service, and a sentence about them."""
    units, source = corpora.units, run.source
    if units is None or units.opened is None:
        raise UserError(
            "data.service: data.train.records must be shards with an index, as `tfseq2seq data shard` writes them, got "
            f"{spec.train.records}"
        )
    filtering = _filtering(run, spec, "data.train", model, objective, units.noted)
    log(
        f"training: {sum(units.sizes):,} examples in {len(units.sizes):,} shards, prepared by the workers of "
        f"{spec.service} in any order; a stopped run goes on at the beginning of its epoch"
    )
    return ServiceStream(
        units,
        lambda examples: source.kept_examples(examples, filtering),
        source.batch(spec),
        source.most_together(spec),
        spec.service,
        run.recipe.seed,
        lambda sentence: log(f"training: {sentence}"),
    )


def generated_score(
    corpora: Corpora, run: Run, model: Any, check: Callable[[], None], distribution: Distribution
) -> Callable[[], float]:
    """Returns a function that generates text for the validation sources and computes the monitored metric.

    The text is generated with greedy search. Each process generates its share.

    Args:
        corpora: the corpora of the recipe.
        run: the run.
        model: the model in training.
        check: is called after each batch, and raises an exception if the training must stop. It is not called where
            there are several processes, which have different numbers of batches.
        distribution: the processes.
    """
    spec = run.recipe.training
    examples = corpora.validation.take(spec.generate_pairs) if spec.generate_pairs else corpora.validation
    sources, references = run.source.judged(examples)
    predictor = greedy_predictor(run, model)
    generator, too_long = Generator(predictor, checked=True), {index for index, _ in predictor.faults(sources)}
    answered = [source for index, source in enumerate(sources) if index not in too_long]

    def score() -> float:
        own = distribution.share(answered)
        found = generator.generate(own, advance=lambda count: None if distribution.workers > 1 else check())
        joined = iter(distribution.join([output.texts[0] for output in found]))
        # An input that the model does not answer counts as an empty output, as in `evaluate`.
        outputs = ["" if index in too_long else next(joined) for index in range(len(sources))]
        return corpus_scores(outputs, references, [spec.monitor], bootstrap=0)[0].value

    return score


def greedy_predictor(run: Run, model: Any) -> Predictor:
    """Returns the model in training with greedy search, for text that is generated between updates."""
    search = run.recipe.search
    greedy = SearchSpec(beam=1, max_length=search.max_length, max_ratio=search.max_ratio)
    return Predictor([model], run.source, run.target, greedy)


def _sized(batches: tf.data.Dataset) -> tf.data.Dataset:
    # If the size of a dataset is unknown, Keras warns at its end that it ran out of data.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches)))
