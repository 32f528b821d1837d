"""Keras callbacks of the training: scores of generated text, checkpoints, progress and limits.

One Keras epoch is the time from one evaluation to the next.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import rich.console
import rich.progress

from tfseq2seq.evaluation.metrics import lower_is_better
from tfseq2seq.progress import on_terminal, terminal_bar
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.distribution import Distribution
from tfseq2seq.training.failures import Diverged
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import apply_masks
from tfseq2seq.training.schedules import guidance_share, sampling_share

# How long training takes is measured between these numbers of updates.
_FIRST_UPDATES, _MEASURED_UPDATES = 10, 50


class Position(keras.callbacks.Callback):
    """Counts training steps, updates the shares of scheduled sampling and guided attention, and stops the training.

    A step is an update, of `optimizer.accumulate` batches. Training stops after the last step, or when the time limit
    is reached. An evaluation comes after each multiple of `evaluate_every` steps: this callback ends the Keras epoch
    there, because the first epoch of a resumed run can be shorter than the others.

    Args:
        run: the run.
        step: the number of previous training steps.

    Attributes:
        values: what the last evaluation logs, composed by `Progress`.
        drawn: the number of batches since the beginning of the dataset.
        finished: whether the training has ended.
        ended: why it has: "steps", "minutes" or "patience"; "" before.
    """

    def __init__(self, run: Run, step: int):
        super().__init__()
        self.spec, self.model_spec, self.step = run.recipe.training, run.recipe.model, step
        self.began = time.monotonic()
        self.finished, self.drawn = step >= self.spec.steps, 0
        self.ended = "steps" if self.finished else ""
        self.values: dict[str, Any] = {}
        self._first = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._first = batch
        if self.model.sampling is not None:
            self.model.sampling.share.assign(sampling_share(self.model_spec.scheduled_sampling, self.step))
        if self.model.guidance is not None:
            self.model.guidance.share.assign(guidance_share(self.model_spec.guided_attention, self.step))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Keras tells the first and the last batch of a call, which has several with `steps_per_execution`.
        batches = batch + 1 - self._first
        self.drawn += batches
        # Each epoch begins with the first batch of a step.
        accumulate = self.spec.optimizer.accumulate
        if (batch + 1) % accumulate:
            return
        self.step += -(-batches // accumulate)
        if self.step >= self.spec.steps:
            self.end("steps")
        elif self.spec.minutes and time.monotonic() - self.began > self.spec.minutes * 60:
            self.end("minutes")
        elif self.step % self.spec.evaluate_every == 0:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # Keras looks at it next after the callbacks.
        self.model.stop_training = self.finished

    def end(self, reason: str) -> None:
        """Ends the training after the evaluation of this step."""
        self.finished = self.model.stop_training = True
        self.ended = reason


class StopAt(keras.callbacks.Callback):
    """Stops at the first evaluation at or after a training step. A resumed training goes on as if there was no stop.

    Args:
        step: the training step.
        position: the callback that counts training steps.
    """

    def __init__(self, step: int, position: Position):
        super().__init__()
        self.step, self.position = step, position

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.position.step >= self.step:
            self.model.stop_training = True


class GeneratedScore(keras.callbacks.Callback):
    """Adds a metric of generated text to the logs as `val_<name>`.

    Args:
        name: the name of the metric.
        score: computes the metric with the current weights. If the optimizer has averaged weights, they are set first.
    """

    def __init__(self, name: str, score: Callable[[], float]):
        super().__init__()
        self.name, self.score = f"val_{name}", score

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        with evaluation_weights(self.model):
            value = self.score()
        if logs is not None:
            logs[self.name] = value


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint at each evaluation, and stops the training if the score does not improve.

    The last checkpoints and the best ones are kept.

    Args:
        run: the run, which the checkpoints belong to.
        position: the callback that counts training steps, and has the values that `Progress` composed.
        saved: the progress of a run that is resumed, or an empty mapping.
        write_state: writes the state of the training with a given progress.
        stop: is called when all is written, and raises an exception if the training must stop.
    """

    def __init__(
        self,
        run: Run,
        position: Position,
        saved: Mapping[str, Any],
        write_state: Callable[[dict[str, Any]], None],
        stop: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self.run, self.position, self.spec = run, position, run.recipe.training
        self.write_state, self.stop = write_state, stop
        self.kept: list[int] = saved.get("kept", [])
        self.best: int | None = saved.get("best")
        self.best_score: float | None = saved.get("best_score")
        # Runs of earlier versions have kept one best checkpoint, and have not listed it.
        known = [[self.best, self.best_score]] if self.best is not None and self.best_score is not None else []
        self.best_kept: list[list[Any]] = saved.get("best_kept", known)
        self.without_progress: int = saved.get("without_progress", 0)
        self.metrics: dict[str, Any] = saved.get("metrics", {})
        self.key = monitored(run.recipe)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        step, score = self.position.step, float((logs or {})[self.key])
        self.metrics = self.position.values
        if not math.isfinite(score):
            self._log()
            raise Diverged(step, f"{self.key} must be finite, got {score}")
        with evaluation_weights(self.model):
            self.run.save_checkpoint(self.model, step)
        self._rank(step, score)
        self.kept = [*[old for old in self.kept if old != step], step][-self.spec.keep :]
        if self.spec.patience and self.without_progress >= self.spec.patience and not self.position.finished:
            self.position.end("patience")
        progress = {"step": step, **self.progress()}
        self.write_state(progress)
        self.run.save_progress(progress)
        self._log()
        self.stop()

    def progress(self) -> dict[str, Any]:
        """Returns the values of progress.json, without the step."""
        return {
            "best": self.best,
            "best_score": self.best_score,
            "best_kept": self.best_kept,
            "monitor": self.key,
            "kept": self.kept,
            "without_progress": self.without_progress,
            "ended": self.position.ended,
            # If the process is killed before the values are logged, the resumed run logs them.
            **({"metrics": self.metrics} if self.metrics else {}),
        }

    def _rank(self, step: int, score: float) -> None:
        """Puts the checkpoint of this step among the best ones, and counts evaluations without a new best one."""
        lower, end = lower_is_better(self.spec.monitor), self.spec.pruning.end

        def rank(entry: list[Any]) -> tuple[float, ...]:
            # Checkpoints from before the end of pruning have too few zeros, even if their score is better. Of these,
            # the latest one has the most. Equal scores: the first one is better.
            at, value = entry
            return (1, -at) if at < end else (0, value if lower else -value, at)

        others = [entry for entry in self.best_kept if entry[0] != step]
        self.best_kept = sorted([*others, [step, score]], key=rank)[: self.spec.keep_best]
        if self.best_kept[0][0] == step:
            self.best, self.best_score, self.without_progress = step, score, 0
        else:
            self.without_progress += 1

    def _log(self) -> None:
        if self.position.values:
            self.run.log(self.position.values)


class Plateau(keras.callbacks.ReduceLROnPlateau):
    """Reduces the learning rate when the score does not improve, and continues with the counts of a resumed run.

    It must come before `Checkpoints`, so that the state has the reduced rate.

    Args:
        recipe: the recipe of the run.
        saved: the value of `state` in a run that is resumed, or an empty mapping.
    """

    def __init__(self, recipe: Recipe, saved: Mapping[str, Any]):
        spec = recipe.training.schedule
        super().__init__(
            monitored(recipe),
            mode="min" if lower_is_better(recipe.training.monitor) else "max",
            factor=spec.factor,
            patience=spec.patience,
            min_lr=spec.floor,
            min_delta=0.0,
        )
        self.saved = saved

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        # Keras begins anew here.
        self.best, self.wait = self.saved.get("best"), self.saved.get("wait", 0)

    def state(self) -> dict[str, Any]:
        """Returns the best score, and the number of evaluations since then or since the last reduction."""
        return {"best": self.best if self.best is None else float(self.best), "wait": self.wait}


class Progress(keras.callbacks.Callback):
    """Shows the progress, and composes the line of metrics.jsonl, which `Checkpoints` writes.

    It prints a line per evaluation. On a terminal it also shows a bar with loss, tokens per second and remaining time.

    Args:
        run: the run.
        position: the callback that counts training steps.
        saved: the value of `state` in a run that is resumed, or an empty mapping.
        distribution: the devices. Only the chief shows something.
    """

    def __init__(
        self,
        run: Run,
        position: Position,
        saved: Mapping[str, Any] | None = None,
        distribution: Distribution | None = None,
    ):
        super().__init__()
        self.run, self.position, self.distribution = run, position, distribution or Distribution()
        # Seconds before this process began to train, in all and since the last evaluation.
        self.earlier, self.epoch_earlier = ((saved or {}).get(name, 0.0) for name in ("seconds", "epoch_seconds"))
        self.console = rich.console.Console(stderr=True, quiet=not self.distribution.chief)
        self.bar: rich.progress.Progress | None = None
        self.began = self.epoch_began = 0.0
        self.first_step, self.told = position.step, False
        self.measured_from: tuple[float, int] | None = None
        self.shown = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.monotonic() - self.earlier
        if on_terminal() and self.distribution.chief:
            self.bar = terminal_bar(rate=False, console=self.console)
            self.bar.start()
            # The first batch comes when the shuffled examples are in memory.
            total, first = self.run.recipe.training.steps, "reading the corpus"
            self.task = self.bar.add_task("training", total=total, completed=self.position.step, state=first)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_began = time.monotonic() - self.epoch_earlier
        self.epoch_earlier = self.training_seconds = 0.0

    def state(self) -> dict[str, float]:
        """Returns the seconds of training, in all and since the last evaluation."""
        now = time.monotonic()
        return {"seconds": round(now - self.began, 3), "epoch_seconds": round(now - self.epoch_began, 3)}

    def on_test_begin(self, logs: Any = None) -> None:
        # Tokens per second are those of training only.
        self.training_seconds = time.monotonic() - self.epoch_began

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._tell_how_long()
        if self.bar is None or 0 < self.shown <= self.position.drawn < self.shown + 10:
            return
        self.shown = self.position.drawn
        # Before its end, the logs of an epoch are those of one replica.
        tokens = _tokens(logs) * self.distribution.replicas
        rate = tokens / max(time.monotonic() - self.epoch_began, 1e-9)
        state = f"loss {float((logs or {}).get('loss', math.nan)):.3f}  {rate:,.0f} tok/s"
        self.bar.update(self.task, completed=self.position.step, state=state)

    def _tell_how_long(self) -> None:
        """Tells once how long the training takes, after updates enough to know."""
        done = self.position.step - self.first_step
        if done >= _FIRST_UPDATES and self.measured_from is None:
            # The first updates build graphs and fill buffers.
            self.measured_from = time.monotonic(), done
        if done < _MEASURED_UPDATES or self.told or self.measured_from is None or done == self.measured_from[1]:
            return
        self.told = True
        began, before = self.measured_from
        each = (time.monotonic() - began) / (done - before)
        spec = self.run.recipe.training
        rest = each * (spec.steps - self.position.step)
        if rest < 60:
            return
        patience = f", or until {spec.patience} evaluations bring nothing" if spec.patience else ""
        limit = f" training.minutes ends it after {spec.minutes:g} minutes." if spec.minutes else ""
        self.console.print(
            f"{each:.2f} s per step: the remaining {spec.steps - self.position.step:,} steps take about "
            f"{_duration(rest)}{patience}.{limit} Evaluations come on top.",
            highlight=False,
            soft_wrap=True,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # A number of tokens is not logged, because it only serves to compute tokens per second.
        tokens, logs = _tokens(logs), {} if logs is None else logs
        for name in [name for name in logs if name.endswith("tokens")]:
            del logs[name]  # later callbacks do not log it either
        values: dict[str, Any] = {
            "step": self.position.step,
            "seconds": round(time.monotonic() - self.began, 1),
            "tokens_per_second": round(tokens / max(self.training_seconds, 1e-9), 1),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            **{name: float(value) for name, value in logs.items()},
        }
        if "val_nll" in values:
            values["val_perplexity"] = math.exp(min(values["val_nll"], 100.0))
        self.position.values = values
        parts = [f"step {self.position.step:,}", f"loss {values.get('loss', math.nan):.3f}"]
        parts += [
            f"{name} {value:.3f}" for name, value in values.items() if name.startswith("val_") and name != "val_loss"
        ]
        parts += [f"{values['tokens_per_second']:,.0f} tok/s", f"{values['seconds']:,.0f} s"]
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.stop()


def _tokens(logs: Mapping[str, Any] | None) -> float:
    """Returns the number of real target tokens that the model was trained on since the last evaluation."""
    found = (value for name, value in (logs or {}).items() if name in ("tokens", "attention_tokens"))
    return float(next(found, math.nan))


def _duration(seconds: float) -> str:
    """Returns seconds as minutes, or as hours and minutes."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def monitored(recipe: Recipe) -> str:
    """Returns the name in the Keras logs of the score that selects the best checkpoint."""
    if recipe.training.monitor != "loss":
        return f"val_{recipe.training.monitor}"
    return build_objective(recipe.model, recipe.training).monitor


@contextlib.contextmanager
def evaluation_weights(model: keras.Model) -> Iterator[None]:
    """Sets the weights to their moving average inside of the context, if the optimizer has one."""
    # The optimizer of float16 scales the loss for an inner one, which has the averages.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema or not optimizer.built:
        yield
        return
    own = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    apply_masks(model)  # the average of weights that were pruned recently is not zero yet
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)
