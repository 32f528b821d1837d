"""Trains the model of a recipe: vocabularies, data, compilation, training and final weights."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.metrics import check_monitor
from tfseq2seq.features.normalization import changed_lines
from tfseq2seq.features.text import TextFeatures
from tfseq2seq.files import full_disk
from tfseq2seq.models.seq2seq import count_parameters
from tfseq2seq.run import FINAL, Run, average_weights, load_weights, save_weights, shared_target, training_lock
from tfseq2seq.sources import Corpora, Source, source_class
from tfseq2seq.sources.text import learn_features as learn_text_features
from tfseq2seq.sources.text import unreachable_report
from tfseq2seq.spec import Recipe, TextSpec
from tfseq2seq.training.batches import TrainingBatches, build_batches, generated_score
from tfseq2seq.training.callbacks import Checkpoints, GeneratedScore, Position, Progress, lower_is_better, monitored
from tfseq2seq.training.distillation import build_distillation_loss
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import Pruning, check_resumed, prune, sparsity, zeros
from tfseq2seq.training.schedules import build_optimizer, learning_rate
from tfseq2seq.training.start import load_vectors


def train(recipe: Recipe, folder: str | Path, resume: bool = False, log: Any = print) -> Run:
    """Trains the model of a recipe and writes the run to `folder`.

    Args:
        recipe: the recipe; see `tfseq2seq recipe --schema`.
        folder: the folder of the run; see `tfseq2seq/run.py` for its files.
        resume: whether to continue the run in `folder` from its last evaluation. The training settings of `recipe`
            apply.
        log: a function that prints lines for the user.

    Returns:
        The finished run.

    Raises:
        UserError: the recipe or one of its files has an error. Most errors are found before training starts.
    """
    check_monitor(recipe.training.monitor)
    # Keras draws the seeds of weights, dropout and sampling from Python's generator. TensorFlow's seed is not changed.
    random.seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.training.precision)
    with contextlib.ExitStack() as lock:
        return _train(recipe, folder, resume, log, lock)


def _train(recipe: Recipe, folder: str | Path, resume: bool, log: Any, lock: contextlib.ExitStack) -> Run:
    """As `train`. The lock of the run goes to `lock` as soon as the folder exists."""
    run = None
    if resume:
        run = _resumed(recipe, folder)
        lock.enter_context(training_lock(folder))
        run.sweep()
    corpora = source_class(recipe.source).open_corpora(recipe)
    if run is None:
        if (Path(folder) / "recipe.yaml").exists():
            raise UserError(f"{folder}: has a run already; continue it with --resume, or give another folder")
        if corpora.texts_told:
            log(corpora.texts_told)
        run = Run(folder, recipe, *learn_features(recipe, corpora))
    sizes = f"source {run.source.size:,}, " if run.source.size else ""
    log(f"vocabulary: {sizes}target {run.target.size:,}")
    for side, features in (("source", run.source.features), ("target", run.target)):
        if features is None:
            continue
        if report := unreachable_report(features.vocabulary, features.spec):
            log(f"{side}: {report}")
        _tell_of_normalization(side, features.spec, corpora, log)

    model = run.build_model()
    objective = build_objective(recipe.model, recipe.training)
    batches = build_batches(corpora, run, model, objective, log)
    compile_model(model, recipe)
    if recipe.training.distillation.teacher:
        model.distillation_loss = build_distillation_loss(recipe.training.distillation, run)
    progress = run.load_resume(model) if resume else {}
    if progress and recipe.training.pruning.sparsity:
        check_resumed(model, recipe.training.pruning, progress["step"])
    if progress and recipe.training.schedule.name == "constant":
        # The saved state has the earlier learning rate, but the recipe can have a new one.
        model.optimizer.learning_rate = recipe.training.optimizer.learning_rate
    if not progress:
        load_vectors(model, run, log)
        run.source.prepare(model, batches.dataset(), log)
    log(f"model: {count_parameters(model):,} parameters")
    if not resume:
        # The folder is created only now, so that an error in the recipe or its files leaves no folder behind.
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock.enter_context(training_lock(folder))
        run.sweep()
        Run.create(folder, recipe, run.source, run.target)
    score = generated_score(corpora, run, model) if recipe.training.monitor != "loss" else None
    if progress and "position" not in progress:
        log("the training data begin anew: the state of an earlier version has no position in them")
    fit(model, run, batches, progress, score)
    finish(model, run, log)
    return run


def _tell_of_normalization(side: str, spec: TextSpec, corpora: Corpora, log: Any) -> None:
    """Tells how many training texts lose characters to the normalization that the recipe asks for."""
    count, shown = changed_lines(corpora.texts(side), spec)
    if count:
        examples = "; ".join(f"{line[:60]!r} becomes {found[:60]!r}" for line, found in shown)
        log(
            f"{side}: normalization {spec.normalization} replaces characters in {count:,} lines"
            f"{' of those for vocabularies' if corpora.texts_told else ''}, which the model then "
            f"never sees or writes ({examples}); set {side}.normalization=nfc to keep them"
        )


def learn_features(recipe: Recipe, corpora: Corpora) -> tuple[Source, TextFeatures]:
    """Returns the source and the target text features. Vocabularies are learned from the training corpus or read.

    Raises:
        UserError: a vocabulary cannot be read or learned. The message starts with "source" or "target".
    """
    source = source_class(recipe.source).learn(recipe, corpora.texts)
    if recipe.share_vocabulary:
        return source, shared_target(source, recipe)
    return source, learn_text_features("target", recipe.target, corpora.texts("target"))


def compile_model(model: Any, recipe: Recipe) -> None:
    """Compiles a model with the losses, metrics, optimizer and schedule of a recipe, and builds the optimizer."""
    spec = recipe.training
    rate = learning_rate(spec.optimizer.learning_rate, spec.schedule, spec.steps, recipe.model.width)
    options = build_objective(recipe.model, spec).compile_options()
    model.compile(optimizer=build_optimizer(spec.optimizer, rate), jit_compile=spec.jit, **options)
    model.optimizer.build(model.trainable_variables)


def fit(
    model: Any,
    run: Run,
    batches: TrainingBatches,
    progress: Mapping[str, Any],
    score: Callable[[], float] | None = None,
) -> None:
    """Calls `model.fit` with evaluations, checkpoints and limits.

    Args:
        model: the compiled model.
        run: the run, which the checkpoints belong to.
        batches: the training and validation batches.
        progress: the progress of a run that is resumed, or an empty mapping.
        score: computes the monitored metric of generated text. None if the recipe monitors the loss.
    """
    spec, step = run.recipe.training, progress.get("step", 0)
    position = Position(run, step)
    if position.finished:
        return
    callbacks: list[keras.callbacks.Callback] = [position]
    if spec.optimizer.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if spec.pruning.sparsity:
        callbacks.append(Pruning(spec.pruning, step, spec.optimizer.accumulate))
    if score is not None:
        callbacks.append(GeneratedScore(spec.monitor, score))
    # The checkpoint has the values that the progress composes.
    callbacks += [Progress(run, position), Checkpoints(run, position, progress, batches.position)]
    if spec.schedule.name == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitored(run.recipe),
                mode="min" if lower_is_better(spec.monitor) else "max",
                factor=spec.schedule.factor,
                patience=spec.schedule.patience,
                min_lr=spec.schedule.floor,
                min_delta=0.0,
            )
        )
    if spec.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run.folder / "logs"), write_graph=False))
    with _explain_xla_errors(spec.jit), _explain_full_disk(run), batches.explained():
        model.fit(
            batches.dataset(progress.get("position")),
            steps_per_epoch=spec.evaluate_every * spec.optimizer.accumulate,
            epochs=-(-spec.steps // spec.evaluate_every),
            initial_epoch=step // spec.evaluate_every,
            validation_data=batches.validation,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )


@contextlib.contextmanager
def _explain_xla_errors(jit: bool) -> Iterator[None]:
    """Raises `UserError` for errors inside that mean that XLA cannot compile the training step."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if not jit or "tf2xla" not in str(error):
            raise
        reason = next((line for line in str(error).splitlines() if "XLA" in line), "no reason given").strip()
        raise UserError(
            f"training.jit: XLA cannot compile this model: {reason[:200]} Set training.jit to false"
        ) from None


@contextlib.contextmanager
def _explain_full_disk(run: Run) -> Iterator[None]:
    """Raises `UserError` for errors inside that mean that TensorFlow cannot write its logs."""
    try:
        yield
    except tf.errors.OpError as error:
        if not (reason := full_disk(error)):
            raise
        raise UserError(
            f"{run.folder}: cannot be written ({reason}); make room, and continue the run with --resume"
        ) from None


def _resumed(recipe: Recipe, folder: str | Path) -> Run:
    run = Run.open(folder)
    if dataclasses.replace(run.recipe, training=recipe.training) != recipe:
        raise UserError(f"{folder}: was trained from another recipe; only training.* may change when a run is resumed")
    run.recipe = recipe
    return run


def finish(model: Any, run: Run, log: Any = print) -> None:
    """Sets and writes the final weights: those of the best checkpoint, or the mean of the last checkpoints."""
    progress, spec = run.progress(), run.recipe.training
    if not progress.get("best"):
        raise UserError(f"{run.folder}: has no checkpoint, because training ended before its first evaluation")
    last = progress["kept"][-spec.average :]
    if spec.average > 1:
        set_average(model, run, last)
        log(f"final weights: mean of the checkpoints at steps {', '.join(map(str, last))}")
    else:
        load_weights(model, run.checkpoint_file(progress["best"]))
        best = f"step {progress['best']}, {progress['monitor']} {progress['best_score']:.4f}"
        log(f"final weights: best checkpoint, {best}")
    if spec.pruning.sparsity:
        log(f"pruned: {zeros(model):.1%} of the numbers in weight matrices are zero")
        if progress["step"] < spec.pruning.end:
            log(f"training ended at step {progress['step']}, before the end of pruning at step {spec.pruning.end}")
    save_weights(model, run.folder / FINAL)


def set_average(model: Any, run: Run, steps: Sequence[int]) -> None:
    """Sets the weights to the mean of the checkpoints of `steps`, and prunes them as much as the last of these."""
    average_weights(model, [run.checkpoint_file(step) for step in steps])
    if run.recipe.training.pruning.sparsity:
        # If earlier checkpoints were pruned less, their mean has too few zeros.
        prune(model, sparsity(run.recipe.training.pruning, steps[-1]))
