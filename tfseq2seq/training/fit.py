"""From a recipe to a trained model: vocabularies, data, compile, fit, final weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfseq2seq.data.batching import (
    CorpusReport,
    batch_by_tokens,
    drop_unfit,
    shuffled_epochs,
    tokenize,
    training_example,
)
from tfseq2seq.data.sources import iterate_side, training_corpora
from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.export.endpoints import TextToText
from tfseq2seq.export.generator import Generator
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.features.vocabulary import learn_vocabulary, load_vocabulary
from tfseq2seq.interop.vectors import embedding_matrix, read_vectors
from tfseq2seq.models.seq2seq import Seq2Seq, count_parameters
from tfseq2seq.spec import DataSpec, Recipe, SearchSpec, TextSpec
from tfseq2seq.training.callbacks import Checkpoints, GeneratedScore, Position, Progress
from tfseq2seq.training.losses import NegativeLogLikelihood, TokenAccuracy, TokenCrossEntropy
from tfseq2seq.training.run import FINAL, Run, average_weights, load_weights, save_weights
from tfseq2seq.training.schedules import build_optimizer, learning_rate


def train(recipe: Recipe, folder: str | Path, resume: bool = False, say: Any = print) -> Run:
    """Trains what a recipe describes and leaves it in `folder`.

    Args:
        recipe: see `tfseq2seq recipe --schema`.
        folder: of the run; see `training/run.py` for what it will hold.
        resume: continue the run in `folder` from its last evaluation, with this recipe's training limits.
        say: gets lines for the user.

    Returns:
        The finished run.

    Raises:
        UserError: something in the recipe or its files is wrong, found before training starts.
    """
    # Weights, dropout and sampling draw their seeds from Python's generator; TensorFlow's own seed stays the program's.
    random.seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.training.precision)
    if recipe.training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("training.tensorboard: `pip install 'tfseq2seq[tensorboard]'`, or set it to false")
    run = _resumed(recipe, folder) if resume else None
    corpora = training_corpora(recipe.data, recipe.seed)
    if run is None:
        if (Path(folder) / "recipe.yaml").exists():
            raise UserError(f"{folder}: holds a run already; continue it with --resume, or name another folder")
        run = Run(folder, recipe, *learn_features(recipe, corpora.held))
    say(f"vocabulary: source {run.source.size:,}, target {run.target.size:,}")

    batches, report = training_batches(corpora.train, run, recipe.data)
    say(f"training: {report}")
    validation, validation_report = validation_batches(corpora.validation, run, recipe.data)
    say(f"validation: {validation_report}")

    model = run.build_model()
    compile_model(model, recipe)
    progress = run.load_resume(model) if resume else {}
    if progress and recipe.training.schedule.name == "constant":
        # The saved state holds the rate as it was; a recipe with another one means it.
        model.optimizer.learning_rate = recipe.training.optimizer.learning_rate
    if not progress:
        load_vectors(model, run, say)
    say(f"model: {count_parameters(model):,} parameters")
    if not resume:
        # Not before: what is wrong in the recipe or its files has come up by now, and leaves no folder behind.
        Run.create(folder, recipe, run.source, run.target)
    score = generated_score(model, run, corpora.validation) if recipe.training.monitor != "loss" else None
    fit(model, run, batches.skip(progress.get("step", 0)), validation, progress, score)
    finish(model, run, say)
    return run


def learn_features(recipe: Recipe, held: Container[int] = ()) -> tuple[TextFeatures, TextFeatures]:
    """Text features of both sides, their vocabularies learned from the training corpus or read from where it says.

    Args:
        recipe: names the corpus and the schemes.
        held: places of training pairs kept for validation, which nothing is learned from.
    """

    def lines(*sides: str) -> Iterator[bytes]:
        for side in sides:
            yield from iterate_side(recipe.data.train, side, held)

    def features(spec: TextSpec, *sides: str) -> TextFeatures:
        try:
            vocabulary = (
                load_vocabulary(spec.vocabulary, spec) if spec.vocabulary else learn_vocabulary(lines(*sides), spec)
            )
        except UserError as error:
            raise UserError(f"{sides[0]}: {error}") from None
        return TextFeatures(spec, vocabulary)

    if recipe.share_vocabulary:
        both = features(recipe.source, "source", "target")
        return both, both
    return features(recipe.source, "source"), features(recipe.target, "target")


def training_batches(pairs: tf.data.Dataset, run: Run, spec: DataSpec) -> tuple[tf.data.Dataset, CorpusReport]:
    """Batches without end, shuffled anew each epoch, and what the corpus holds."""
    kept, report = drop_unfit(tokenize(run.source, run.target)(pairs), spec, "data.train")
    shuffled = shuffled_epochs(kept, report.kept, spec, run.recipe.seed)
    return batch_by_tokens(spec)(shuffled).map(training_example).prefetch(8), report


def validation_batches(pairs: tf.data.Dataset, run: Run, spec: DataSpec) -> tuple[tf.data.Dataset, CorpusReport]:
    """The validation corpus once, in batches."""
    kept, report = drop_unfit(tokenize(run.source, run.target)(pairs), spec, "data.validation")
    batches = batch_by_tokens(spec)(kept).map(training_example).cache()
    # Keras takes the end of a dataset of unknown size for a shortage of data, and warns.
    return batches.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in batches))), report


def compile_model(model: Seq2Seq, recipe: Recipe) -> None:
    """Loss, optimizer, schedule and metrics of a recipe, and the optimizer's variables."""
    spec = recipe.training
    rate = learning_rate(spec.optimizer.learning_rate, spec.schedule, spec.steps, recipe.model.width)
    model.compile(
        optimizer=build_optimizer(spec.optimizer, rate),
        loss=TokenCrossEntropy(spec.label_smoothing),
        weighted_metrics=[NegativeLogLikelihood(), TokenAccuracy()],
        jit_compile=spec.jit,
    )
    model.optimizer.build(model.trainable_variables)


def fit(
    model: Seq2Seq,
    run: Run,
    batches: tf.data.Dataset,
    validation: tf.data.Dataset,
    progress: Mapping[str, Any],
    score: Callable[[], float] | None = None,
) -> None:
    """`model.fit` with evaluations, checkpoints and limits.

    Args:
        model: compiled.
        run: where checkpoints go.
        batches: training batches without end, from the update to continue at.
        validation: batches to evaluate on.
        progress: of the run being resumed, or nothing.
        score: of generated text, where the recipe's monitor is one.
    """
    spec, step = run.recipe.training, progress.get("step", 0)
    position = Position(run, step)
    if position.finished:
        return
    callbacks: list[keras.callbacks.Callback] = [position]
    if spec.optimizer.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if score is not None:
        callbacks.append(GeneratedScore(spec.monitor, score))
    callbacks.append(Checkpoints(run, position, progress))
    if spec.schedule.name == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                "val_nll" if spec.monitor == "loss" else f"val_{spec.monitor}",
                mode="min" if spec.monitor == "loss" else "max",
                factor=spec.schedule.factor,
                patience=spec.schedule.patience,
                min_lr=spec.schedule.floor,
                min_delta=0.0,
            )
        )
    if spec.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run.folder / "logs"), write_graph=False))
    model.fit(
        batches,
        steps_per_epoch=spec.evaluate_every,
        epochs=-(-spec.steps // spec.evaluate_every),
        initial_epoch=step // spec.evaluate_every,
        validation_data=validation,
        callbacks=[*callbacks, Progress(run, position)],
        shuffle=False,
        verbose=0,
    )


def generated_score(model: Seq2Seq, run: Run, pairs: tf.data.Dataset) -> Callable[[], float]:
    """A function that generates the targets of raw pairs greedily and scores them by the recipe's monitor."""
    spec = run.recipe.training
    if spec.generate_pairs:
        pairs = pairs.take(spec.generate_pairs)
    chunks = list(pairs.batch(2048).as_numpy_iterator())
    sources, references = ([line.decode() for chunk in chunks for line in chunk[side]] for side in (0, 1))
    search = SearchSpec(beam=1, max_length=run.recipe.search.max_length, max_ratio=run.recipe.search.max_ratio)
    generator = Generator(TextToText([model], run.source, run.target, search))

    def score() -> float:
        outputs = [output.texts[0] for output in generator.generate(sources)]
        return corpus_scores(outputs, [references], [spec.monitor], bootstrap=0)[0].value

    return score


def load_vectors(model: Seq2Seq, run: Run, say: Any = print) -> None:
    """Starts embeddings from the vector files the recipe names; tokens without a vector keep a random one."""
    spec, seed = run.recipe.model, run.recipe.seed
    sides = (
        (spec.source_vectors, run.source, model.source_embedding, "source"),
        (spec.target_vectors, run.target, model.target_embedding, "target"),
    )
    for path, features, embedding, side in sides:
        if path:
            tokens = features.vocabulary.tokens
            # Files are of unit deviation, more or less; the model's embeddings are scaled by width^0.5 when read.
            matrix, found = embedding_matrix(
                tokens, read_vectors(path, set(tokens)), spec.width, seed, spec.width**-0.5
            )
            embedding.embeddings.assign(matrix)
            say(f"{side} vectors: {found:,} of {len(tokens):,} tokens found in {path}")


def _resumed(recipe: Recipe, folder: str | Path) -> Run:
    run = Run.open(folder)
    if dataclasses.replace(run.recipe, training=recipe.training) != recipe:
        raise UserError(f"{folder}: was trained from another recipe; only training.* may change when a run is resumed")
    run.recipe = recipe
    return run


def finish(model: Seq2Seq, run: Run, say: Any = print) -> None:
    """Sets the final weights, the best checkpoint's or the mean of the last ones, and writes them."""
    progress, spec = run.progress(), run.recipe.training
    if not progress.get("best"):
        raise UserError(f"{run.folder}: training ended before its first evaluation; nothing was kept")
    last = progress["kept"][-spec.average :]
    if spec.average > 1:
        average_weights(model, [run.checkpoint_file(step) for step in last])
        say(f"final weights: mean of the checkpoints at steps {', '.join(map(str, last))}")
    else:
        load_weights(model, run.checkpoint_file(progress["best"]))
        best = f"step {progress['best']}, {progress['monitor']} {progress['best_score']:.4f}"
        say(f"final weights: best checkpoint, {best}")
    save_weights(model, run.folder / FINAL)
