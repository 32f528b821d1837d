"""Batches for `fit`, and scores of generated text, from the corpora of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfseq2seq.data.batching import shuffled_epochs
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.inference.generator import Generator
from tfseq2seq.inference.predictor import Predictor
from tfseq2seq.run import Run
from tfseq2seq.sources import Corpora
from tfseq2seq.spec import SearchSpec
from tfseq2seq.training.distribution import Distribution
from tfseq2seq.training.global_batch import globally_weighted
from tfseq2seq.training.objectives import Objective

Log = Callable[[str], None]


class TrainingBatches:
    """Endless training batches that can begin anywhere, and the batches of the validation corpus.

    Args:
        batches: endless training batches, which are the same each time that they are read.
        accumulate: the number of batches of an update.
        prefetch: the number of batches to prepare ahead.
        validation: the validation batches.
    """

    def __init__(self, batches: tf.data.Dataset, accumulate: int, prefetch: int, validation: tf.data.Dataset):
        self._batches, self._accumulate, self._prefetch, self.validation = batches, accumulate, prefetch, validation
        self._begun = 0

    def dataset(self, position: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        """Returns endless training batches, scaled for updates of several batches.

        Args:
            position: a value of `position`, at the beginning of an update. None: from the first batch on.
        """
        self._begun = int(position["batches"]) if position else 0
        return globally_weighted(self._batches.skip(self._begun), self._accumulate).prefetch(self._prefetch)

    def position(self, count: int) -> dict[str, Any]:
        """Returns the position after `count` batches of the dataset that was last opened, as values for JSON."""
        return {"batches": self._begun + count}


def build_batches(corpora: Corpora, run: Run, model: Any, objective: Objective, log: Log) -> TrainingBatches:
    """Returns endless training batches, shuffled anew in each epoch, and the batches of the validation corpus.

    `training.optimizer.accumulate` training batches make an update.

    Raises:
        UserError: a corpus has no usable example.
    """
    source, spec = run.source, run.recipe.data
    parts = []
    for name, noun, examples in (
        ("train", "training", corpora.train),
        ("validation", "validation", corpora.validation),
    ):
        faults = corpora.faults.get(name)
        kept, report = source.filter_examples(
            examples, run.target, spec, f"data.{name}", model, objective.aligned, faults
        )
        log(f"{noun}: {report}")
        parts.append((kept, report.kept))
    (train, count), (validation, _) = parts
    batch = source.batch(spec)
    batches = batch(shuffled_epochs(train, count, spec, run.recipe.seed)).map(objective.example)
    evaluated = _sized(globally_weighted(batch(validation).map(objective.example)).cache())
    return TrainingBatches(batches, run.recipe.training.optimizer.accumulate, source.prefetch, evaluated)


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
    spec, search = run.recipe.training, run.recipe.search
    examples = corpora.validation.take(spec.generate_pairs) if spec.generate_pairs else corpora.validation
    sources, references = run.source.values(examples)
    greedy = SearchSpec(beam=1, max_length=search.max_length, max_ratio=search.max_ratio)
    generator = Generator(Predictor([model], run.source, run.target, greedy))

    def score() -> float:
        own = distribution.share(sources)
        found = generator.generate(own, advance=lambda count: None if distribution.workers > 1 else check())
        outputs = distribution.join([output.texts[0] for output in found])
        return corpus_scores(outputs, [references], [spec.monitor], bootstrap=0)[0].value

    return score


def _sized(batches: tf.data.Dataset) -> tf.data.Dataset:
    # If the size of a dataset is unknown, Keras warns at its end that it ran out of data.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches)))
