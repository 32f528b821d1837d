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
from tfseq2seq.run import (
    Resumed,
    Run,
    average_weights,
    check_writable,
    load_trained,
    save_trained,
    shared_target,
    training_lock,
)
from tfseq2seq.sources import Corpora, Source, source_class
from tfseq2seq.sources.text import learn_features as learn_text_features
from tfseq2seq.sources.text import unreachable_report
from tfseq2seq.spec import Recipe, TextSpec
from tfseq2seq.training.backends import check_backend, on_tensorflow
from tfseq2seq.training.batches import TrainingBatches, build_batches, generated_score
from tfseq2seq.training.callbacks import Checkpoints, GeneratedScore, Plateau, Position, Progress, StopAt
from tfseq2seq.training.distillation import build_distillation_loss
from tfseq2seq.training.distribution import Distribution, explained_failures, open_distribution
from tfseq2seq.training.failures import Diverged, LossGuard, explained
from tfseq2seq.training.keras_distribution import distributed_fit, sum_gradients_first
from tfseq2seq.training.loggers import check_loggers
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import Pruning, check_resumed, prune, sparsity, zeros
from tfseq2seq.training.resuming import Ended, InterruptedEvaluation, Stateful, States, build_metrics
from tfseq2seq.training.schedules import build_optimizer, learning_rate, scale_learning_rates
from tfseq2seq.training.signals import Interrupted, Signals
from tfseq2seq.training.start import adapt, check_same_start, freeze, load_start, load_vectors, new_run
from tfseq2seq.training.watching import Watching
from tfseq2seq.training.workers import ObservedRun, Together, load_shared_state


def train(recipe: Recipe, folder: str | Path, resume: bool = False, log: Any = print, until: int = 0) -> Run:
    """Trains the model of a recipe and writes the run to `folder`.

    Args:
        recipe: the recipe; see `tfseq2seq recipe --schema`.
        folder: the folder of the run; see `tfseq2seq/run.py` for its files.
        resume: whether to continue the run in `folder` from its last state. The training settings of `recipe` apply.
            With `training.resume: auto` a run in `folder` is continued in any case, unless it has ended.
        log: a function that prints lines for the user.
        until: stops at the first evaluation at or after this training step; 0 for the end of the training.

    Returns:
        The finished run.

    Raises:
        UserError: the recipe or one of its files has an error. Most errors are found before training starts.
        Diverged: the loss or a weight is not finite. The last good checkpoint gives the final weights.
        Interrupted: SIGTERM or SIGINT has stopped the training, and its state is written.
    """
    check_monitor(recipe.training.monitor)
    check_backend(recipe)
    check_writable(folder)
    check_loggers(recipe.training.loggers)
    # Keras draws the seeds of weights, dropout and sampling from Python's generator. TensorFlow's seed is not changed.
    random.seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.training.precision)
    distribution = open_distribution(recipe.training)
    # Before the first update there is no state to ask for, and the request must not end the process.
    with contextlib.ExitStack() as lock, Signals(stops=False):
        log = log if distribution.chief else _say_nothing
        return _train(recipe, folder, resume, log, lock, until, distribution)


def _say_nothing(text: str) -> None:
    """The log of a worker that is not the chief: the chief logs the same."""


def _train(
    recipe: Recipe,
    folder: str | Path,
    resume: bool,
    log: Any,
    lock: contextlib.ExitStack,
    until: int,
    distribution: Distribution,
) -> Run:
    """As `train`. The lock of the run goes to `lock` as soon as the folder exists."""
    run, ended_before = None, False
    # The chief may create the run while others still look for it.
    exists = distribution.any(distribution.chief and (Path(folder) / "recipe.yaml").exists())
    if resume or (exists and recipe.training.resume == "auto"):
        run = _resumed(recipe, folder)
        ended_before = distribution.any(distribution.chief and _has_ended(run))
        if ended_before and not resume:
            log(f"{folder}: training has ended already, at step {run.progress()['step']:,}")
            return run
        resume = True
        if distribution.chief:
            lock.enter_context(training_lock(folder))
            run.sweep()
    corpora = source_class(recipe.source).open_corpora(recipe)
    for line in corpora.told:
        log(line)
    if run is None:
        if exists:
            raise UserError(f"{folder}: has a run already; continue it with --resume, or give another folder")
        run = _new_run(recipe, folder, corpora, log)
    if not distribution.chief:
        run = ObservedRun(run)
    _tell_of_vocabularies(run, corpora, log)
    if recipe.training.strategy != "one":
        log(f"training on {distribution.replicas} devices ({recipe.training.strategy})")
    model, batches = _build(run, corpora, log, distribution)
    resumed = load_shared_state(model, run, distribution, log) if resume else Resumed({}, {}, [])
    _begin(model, run, batches, resumed, log)
    if not resume and distribution.chief:
        # The folder is created only now, so that an error in the recipe or its files leaves no folder behind.
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock.enter_context(training_lock(folder))
        run.sweep()
        Run.create(folder, recipe, run.source, run.target, run.origin)
    # Out of patience, the process was killed after its last evaluation, and before it wrote the final weights.
    if ended_before or not _is_out_of_patience(run, resumed.progress):
        signals, score = Signals(), None
        if recipe.training.monitor != "loss":
            score = generated_score(corpora, run, model, signals.check, distribution)
        watching = Watching(corpora, run, model, lock) if distribution.chief else None
        try:
            fit(model, run, batches, resumed, signals, score, watching, until, distribution)
        except Diverged:
            if distribution.chief and run.progress().get("best"):
                finish(model, run, log)
            raise
    if distribution.chief:
        finish(model, run, log)
    return run


def _new_run(recipe: Recipe, folder: str | Path, corpora: Corpora, log: Any) -> Run:
    """Returns a run that is not on disk yet, with the vocabularies of the run it starts from, or with new ones."""
    if recipe.training.start_from:
        return new_run(recipe, folder)
    if corpora.texts_told:
        log(corpora.texts_told)
    return Run(folder, recipe, *learn_features(recipe, corpora))


def _build(run: Run, corpora: Corpora, log: Any, distribution: Distribution) -> tuple[Any, TrainingBatches]:
    """Returns the compiled model on its devices, and the batches."""
    recipe = run.recipe
    objective = build_objective(recipe.model, recipe.training)
    with distribution.scope():
        model = run.build_model()
        if recipe.training.rematerialize:
            model.rematerialize()
        if recipe.training.freeze:
            freeze(model, recipe.training.freeze, log)
        if run.adapts:
            adapt(model, run, log)
        batches = build_batches(corpora, run, model, objective, log)
        compile_model(model, recipe)
        if recipe.training.distillation.teacher:
            model.distillation_loss = build_distillation_loss(recipe.training.distillation, run)
    if distribution.strategy is not None:
        sum_gradients_first(model.optimizer)
    return model, batches


def _begin(model: Any, run: Run, batches: TrainingBatches, resumed: Resumed, log: Any) -> None:
    """Sets what a new training begins with, or what a resumed one takes from the recipe instead of its state."""
    spec, progress = run.recipe.training, resumed.progress
    if progress and progress["step"] % spec.steps_per_execution:
        raise UserError(
            f"training.steps_per_execution: must divide the step {progress['step']:,}, at which the training was "
            f"stopped, got {spec.steps_per_execution}"
        )
    if progress and spec.pruning.sparsity:
        check_resumed(model, spec.pruning, progress["step"])
    if progress and spec.schedule.name == "constant":
        # The saved state has the earlier learning rate, but the recipe can have a new one.
        model.optimizer.learning_rate = spec.optimizer.learning_rate
    if not progress and spec.start_from:
        load_start(model, run, log)
    elif not progress:
        load_vectors(model, run, log)
        run.source.prepare(model, batches.dataset(), log)
    if not run.adapts:  # what is trained of it was told with the adapters
        log(f"model: {count_parameters(model):,} parameters")
    if progress and "data" not in resumed.training:
        log("the training data begin anew: the state of an earlier version has no position in them")


def _has_ended(run: Run) -> bool:
    """Returns whether the training has ended by the settings of the recipe, and has written its final weights."""
    try:
        progress, spec = run.progress(), run.recipe.training
    except UserError:
        return False  # the state has the progress too, and writes the file again
    if "final" not in progress or progress["final"] != progress["step"]:
        return False
    by_steps, by_minutes = progress["step"] >= spec.steps, progress.get("ended") == "minutes"
    return by_steps or by_minutes or _is_out_of_patience(run, progress)


def _is_out_of_patience(run: Run, progress: Mapping[str, Any]) -> bool:
    patience = run.recipe.training.patience
    return bool(patience) and progress.get("ended") == "patience" and progress["without_progress"] >= patience


def _tell_of_vocabularies(run: Run, corpora: Corpora, log: Any) -> None:
    """Tells the sizes of the vocabularies, and what of them or of the texts is never used."""
    sizes = f"source {run.source.size:,}, " if run.source.features else ""
    log(f"vocabulary: {sizes}target {run.target.size:,}")
    for side, features in (("source", run.source.features), ("target", run.target)):
        if features is None:
            continue
        if report := unreachable_report(features.vocabulary, features.spec):
            log(f"{side}: {report}")
        _tell_of_normalization(side, features.spec, corpora, log)


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
    # JAX without compilation takes minutes for an update.
    jit = spec.jit or not on_tensorflow()
    # Keras counts batches.
    together = spec.steps_per_execution * spec.optimizer.accumulate if spec.steps_per_execution > 1 else 1
    model.compile(
        optimizer=build_optimizer(spec.optimizer, rate), jit_compile=jit, steps_per_execution=together, **options
    )
    model.optimizer.build(model.trainable_variables)
    scale_learning_rates(model.optimizer, model.trainable_variables)


def fit(
    model: Any,
    run: Run,
    batches: TrainingBatches,
    resumed: Resumed,
    signals: Signals,
    score: Callable[[], float] | None = None,
    watching: Watching | None = None,
    until: int = 0,
    distribution: Distribution | None = None,
) -> None:
    """Calls `model.fit` with evaluations, checkpoints and limits.

    Args:
        model: the compiled model.
        run: the run, which the checkpoints belong to.
        batches: the training and validation batches.
        resumed: the state of a run that is resumed; empty for a new one.
        signals: notes what stops the training.
        score: computes the monitored metric of generated text. None if the recipe monitors the loss.
        watching: what shows the training to people.
        until: stops at the first evaluation at or after this training step; 0 for no stop.
        distribution: the devices. None for a single one.

    Raises:
        Diverged: the loss or a weight is not finite, or the loss is too large.
        Interrupted: a signal has stopped the training, and its state is written.
    """
    distribution = distribution or Distribution()
    spec, step = run.recipe.training, resumed.progress.get("step", 0)
    position, evaluates = Position(run, step), bool(resumed.training.get("evaluates"))
    if position.finished and not evaluates:
        return
    dataset = batches.dataset(resumed.training.get("data"))
    if resumed.interval and distribution.strategy is None and on_tensorflow():
        build_metrics(model, dataset)
    states, callbacks = _callbacks(run, position, batches, resumed, signals, score, distribution)
    validation, count = distribution.distribute(batches.validation), int(batches.validation.cardinality())
    again = InterruptedEvaluation(validation, count, -(-step // spec.evaluate_every) - 1, position)
    if watching is not None:
        callbacks += watching.callbacks(position)
        dataset = watching.tapped(dataset)
    if until:
        callbacks.append(StopAt(until, position))
    # Keras would put its history behind the last callback.
    everything = [keras.callbacks.History(), *callbacks, *([again] if evaluates else [])]
    listed = again.callbacks = keras.callbacks.CallbackList(everything, model=model)
    with contextlib.ExitStack() as stack:
        for context in (
            signals,
            _explain_endings(run, listed, states, batches, distribution),
            _explain_xla_errors(spec.jit),
            _explain_full_disk(run),
            explained_failures(distribution),
            batches.explained(),
        ):
            stack.enter_context(context)
        if distribution.strategy is not None:
            (batch,) = distribution.local_rows(batches.validation).take(1)
            stack.enter_context(distributed_fit(model, batch))
        model.fit(
            distribution.distribute(dataset),
            steps_per_epoch=spec.evaluate_every * spec.optimizer.accumulate,
            epochs=-(-spec.steps // spec.evaluate_every),
            initial_epoch=step // spec.evaluate_every,
            validation_data=validation,
            validation_steps=count,
            callbacks=listed,
            shuffle=False,
            verbose=0,
        )


@contextlib.contextmanager
def _explain_endings(
    run: Run,
    callbacks: keras.callbacks.CallbackList,
    states: States,
    batches: TrainingBatches,
    distribution: Distribution,
) -> Iterator[None]:
    """Ends the training properly if an exception ends it inside, and says in the exception what is left of it."""
    try:
        yield
    except Ended:
        callbacks.on_train_end()
    except Interrupted as interrupted:
        for callback in callbacks.callbacks:
            if isinstance(callback, keras.callbacks.SwapEMAWeights):
                callback.on_test_end()  # in an evaluation, the averages are in the place of the weights
        states.write_interrupted_evaluation()
        callbacks.on_train_end()
        raise _with_advice(interrupted, run, states.saved) from None
    except Diverged as error:
        callbacks.on_train_end()
        raise explained(error, run, batches, states.position.drawn) if distribution.chief else error from None
    except UserError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise UserError(f"{error}; {states.stays}; make room, and continue the run with --resume") from None
    finally:
        for callback in callbacks.callbacks:
            if isinstance(callback, Progress):
                callback.on_train_end()  # a bar would hide the line about the error


def _callbacks(
    run: Run,
    position: Position,
    batches: TrainingBatches,
    resumed: Resumed,
    signals: Signals,
    score: Callable[[], float] | None,
    distribution: Distribution,
) -> tuple[States, list[keras.callbacks.Callback]]:
    """Returns the callback that writes states, and all callbacks in their order."""
    spec = run.recipe.training
    callbacks: list[keras.callbacks.Callback] = [position, LossGuard(spec.loss_limit, position)]
    if spec.optimizer.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if spec.pruning.sparsity:
        callbacks.append(Pruning(spec.pruning, position.step, spec.optimizer.accumulate))
    if score is not None:
        callbacks.append(GeneratedScore(spec.monitor, score))
    progress = Progress(run, position, resumed.training.get("progress"), distribution)
    # The checkpoint has the values that the progress composes, and the reduced learning rate.
    last: list[keras.callbacks.Callback] = [progress]
    parts: dict[str, Stateful] = {"progress": progress}
    if spec.schedule.name == "plateau":
        parts["plateau"] = Plateau(run.recipe, resumed.training.get("plateau", {}))
        last.append(parts["plateau"])

    checkpoints = Checkpoints(run, position, resumed.progress, lambda contents: states.write(contents), signals.check)
    states = States(run, position, batches, signals, resumed, checkpoints.progress, parts)
    if distribution.workers > 1:
        # Directly after the position.
        callbacks.insert(1, Together(position, signals, states, distribution))
    callbacks += [states, *last, checkpoints]
    return states, callbacks


def _with_advice(interrupted: Interrupted, run: Run, saved: int | None) -> Interrupted:
    """Returns the exception with a line about how to continue."""
    how = "the same command" if run.recipe.training.resume == "auto" else "--resume"
    state = f"continues from step {saved:,}" if saved is not None else "begins anew, as no state could be written"
    return Interrupted(interrupted.number, f"stopped by {interrupted.name}; {how} {state}")


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
    check_same_start(recipe, run)
    if dataclasses.replace(run.recipe, training=recipe.training) != recipe:
        raise UserError(f"{folder}: was trained from another recipe; only training.* may change when a run is resumed")
    run.recipe = recipe
    return run


def finish(model: Any, run: Run, log: Any = print) -> None:
    """Sets and writes the final weights: those of the best checkpoint, or the mean of the last checkpoints."""
    progress, spec = run.progress(), run.recipe.training
    if not progress.get("best"):
        raise UserError(f"{run.folder}: has no checkpoint, because training ended before its first evaluation")
    last = averaged_steps(progress, spec.average, spec.average_of)
    if spec.average > 1:
        set_average(model, run, last)
        log(f"final weights: mean of the checkpoints at steps {', '.join(map(str, last))}")
    else:
        load_trained(model, run.checkpoint_file(progress["best"]))
        best = f"step {progress['best']}, {progress['monitor']} {progress['best_score']:.4f}"
        log(f"final weights: best checkpoint, {best}")
    if spec.pruning.sparsity:
        log(f"pruned: {zeros(model):.1%} of the numbers in weight matrices are zero")
        if progress["step"] < spec.pruning.end:
            log(f"training ended at step {progress['step']}, before the end of pruning at step {spec.pruning.end}")
    save_trained(model, run.final_file)
    if run.adapts:
        size = run.final_file.stat().st_size / 1e6
        log(f"{run.final_file}: {size:.2f} MB of adapters, for the weights of {spec.start_from}")
    run.save_progress({**progress, "final": progress["step"]})


def averaged_steps(progress: Mapping[str, Any], count: int, of: str) -> list[int]:
    """Returns the steps of the latest or of the best checkpoints, at most `count`, in rising order."""
    if of == "best":
        return sorted(step for step, _ in progress.get("best_kept", [])[:count])
    return progress.get("kept", [])[-count:]


def set_average(model: Any, run: Run, steps: Sequence[int]) -> None:
    """Sets the weights to the mean of the checkpoints of `steps`, and prunes them as much as the last of these."""
    average_weights(model, [run.checkpoint_file(step) for step in steps])
    if run.recipe.training.pruning.sparsity:
        # If earlier checkpoints were pruned less, their mean has too few zeros.
        prune(model, sparsity(run.recipe.training.pruning, steps[-1]))
