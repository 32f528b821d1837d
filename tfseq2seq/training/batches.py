"""Batches for `fit`, and scores of generated text, from the corpora of a recipe."""

from __future__ import annotations

from collections.abc import Callable
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


def build_batches(
    corpora: Corpora, run: Run, model: Any, objective: Objective, log: Log
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
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
    shuffled = shuffled_epochs(train, count, spec, run.recipe.seed)
    batches = globally_weighted(batch(shuffled).map(objective.example), run.recipe.training.optimizer.accumulate)
    validation = globally_weighted(batch(validation).map(objective.example))
    return batches.prefetch(source.prefetch), _sized(validation.cache())


def generated_score(corpora: Corpora, run: Run, model: Any, distribution: Distribution) -> Callable[[], float]:
    """Returns a function that generates text for the validation sources and computes the monitored metric.

    The text is generated with greedy search. Each process generates its share.
    """
    spec, search = run.recipe.training, run.recipe.search
    examples = corpora.validation.take(spec.generate_pairs) if spec.generate_pairs else corpora.validation
    sources, references = run.source.values(examples)
    greedy = SearchSpec(beam=1, max_length=search.max_length, max_ratio=search.max_ratio)
    generator = Generator(Predictor([model], run.source, run.target, greedy))

    def score() -> float:
        own = [output.texts[0] for output in generator.generate(distribution.share(sources))]
        outputs = distribution.join(own)
        return corpus_scores(outputs, [references], [spec.monitor], bootstrap=0)[0].value

    return score


def _sized(batches: tf.data.Dataset) -> tf.data.Dataset:
    # If the size of a dataset is unknown, Keras warns at its end that it ran out of data.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches)))
