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

from tfseq2seq.evaluation.metrics import LOWER_IS_BETTER
from tfseq2seq.progress import on_terminal, terminal_bar
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import apply_masks
from tfseq2seq.training.schedules import guidance_share, sampling_share

# How long training takes is measured between these numbers of updates.
_FIRST_UPDATES, _MEASURED_UPDATES = 10, 50


class Position(keras.callbacks.Callback):
    """Counts training steps, updates the shares of scheduled sampling and guided attention, and stops the training.

    A step is an update, of `optimizer.accumulate` batches. Training stops after the last step, or when the time limit
    is reached.

    Args:
        run: the run.
        step: the number of previous training steps.

    Attributes:
        values: what the last evaluation logs, composed by `Progress`.
    """

    def __init__(self, run: Run, step: int):
        super().__init__()
        self.spec, self.model_spec, self.step = run.recipe.training, run.recipe.model, step
        self.began = time.monotonic()
        self.finished = step >= self.spec.steps
        self.values: dict[str, Any] = {}

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.model.sampling is not None:
            self.model.sampling.share.assign(sampling_share(self.model_spec.scheduled_sampling, self.step))
        if self.model.guidance is not None:
            self.model.guidance.share.assign(guidance_share(self.model_spec.guided_attention, self.step))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Each epoch begins with the first batch of a step.
        if (batch + 1) % self.spec.optimizer.accumulate:
            return
        self.step += 1
        out_of_time = self.spec.minutes and time.monotonic() - self.began > self.spec.minutes * 60
        if self.step >= self.spec.steps or out_of_time:
            self.finished = self.model.stop_training = True


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

    The last checkpoints and the best one are kept.

    Args:
        run: the run, which the checkpoints belong to.
        position: the callback that counts training steps, and has the values that `Progress` composed.
        saved: the progress of a run that is resumed, or an empty mapping.
        data_position: from the number of batches drawn in this process to the position in the training data.
    """

    def __init__(
        self,
        run: Run,
        position: Position,
        saved: Mapping[str, Any],
        data_position: Callable[[int], Mapping[str, Any]] = lambda count: {},
    ):
        super().__init__()
        self.data_position, self.first_step = data_position, position.step
        self.run, self.position, self.spec = run, position, run.recipe.training
        self.kept: list[int] = saved.get("kept", [])
        self.best: int | None = saved.get("best")
        self.best_score: float | None = saved.get("best_score")
        self.without_progress: int = saved.get("without_progress", 0)
        self.key = monitored(run.recipe)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        step, score = self.position.step, float((logs or {})[self.key])
        if not math.isfinite(score):
            self.model.stop_training = self.position.finished = True
            self._log()
            rich.console.Console(stderr=True).print(
                f"step {step}: {self.key} must be finite, got {score}. Training stops, and the last good checkpoint is "
                "kept. Try a lower learning rate, a longer warmup or training.optimizer.clip_norm.",
                highlight=False,
                soft_wrap=True,
            )
            return
        better = (
            self.best is None
            or self.best_score is None
            # Checkpoints from before the end of pruning have too few zeros, even if their score is better.
            or self.best < self.spec.pruning.end
            or (score < self.best_score if lower_is_better(self.spec.monitor) else score > self.best_score)
        )
        with evaluation_weights(self.model):
            self.run.save_checkpoint(self.model, step)
        if better:
            self.best, self.best_score, self.without_progress = step, score, 0
        else:
            self.without_progress += 1
        self.kept = [*[old for old in self.kept if old != step], step][-self.spec.keep :]
        progress = {
            "step": step,
            "best": self.best,
            "best_score": self.best_score,
            "monitor": self.key,
            "kept": self.kept,
            "without_progress": self.without_progress,
            "position": self.data_position((step - self.first_step) * self.spec.optimizer.accumulate),
            # If the process is killed before the values are logged, the resumed run logs them.
            **({"metrics": self.position.values} if self.position.values else {}),
        }
        self.run.save_resume(self.model, progress)
        self.run.save_progress(progress)
        self._log()
        if self.spec.patience and self.without_progress >= self.spec.patience:
            self.model.stop_training = self.position.finished = True

    def _log(self) -> None:
        if self.position.values:
            self.run.log(self.position.values)


class Progress(keras.callbacks.Callback):
    """Shows the progress, and composes the line of metrics.jsonl, which `Checkpoints` writes.

    It prints a line per evaluation. On a terminal it also shows a bar with loss, tokens per second and remaining time.

    Args:
        run: the run.
        position: the callback that counts training steps.
    """

    def __init__(self, run: Run, position: Position):
        super().__init__()
        self.run, self.position = run, position
        self.console = rich.console.Console(stderr=True)
        self.bar: rich.progress.Progress | None = None
        self.began = self.epoch_began = 0.0
        self.first_step, self.told = position.step, False
        self.measured_from: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.monotonic()
        if on_terminal():
            self.bar = terminal_bar(rate=False, console=self.console)
            self.bar.start()
            # The first batch comes when the shuffled examples are in memory.
            total, first = self.run.recipe.training.steps, "reading the corpus"
            self.task = self.bar.add_task("training", total=total, completed=self.position.step, state=first)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_began = time.monotonic()
        self.training_seconds = self.training_tokens = 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        # Tokens per second are those of training only. Evaluation resets the token count, so both are saved here.
        self.training_seconds, self.training_tokens = time.monotonic() - self.epoch_began, self._tokens()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._tell_how_long()
        if self.bar is None or batch % 10:
            return
        rate = self._tokens() / max(time.monotonic() - self.epoch_began, 1e-9)
        state = f"loss {float((logs or {}).get('loss', math.nan)):.3f}  {rate:,.0f} tok/s"
        self.bar.update(self.task, completed=self.position.step, state=state)

    def _tell_how_long(self) -> None:
        """Tells once how long the training takes, after updates enough to know."""
        done = self.position.step - self.first_step
        if done == _FIRST_UPDATES and self.measured_from is None:
            # The first updates build graphs and fill buffers.
            self.measured_from = time.monotonic()
        if done < _MEASURED_UPDATES or self.told or self.measured_from is None:
            return
        self.told = True
        each = (time.monotonic() - self.measured_from) / (done - _FIRST_UPDATES)
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
        # A `TokenCount` is not logged, because it only serves to compute tokens per second.
        logs = {name: value for name, value in (logs or {}).items() if not name.endswith("tokens")}
        values: dict[str, Any] = {
            "step": self.position.step,
            "seconds": round(time.monotonic() - self.began, 1),
            "tokens_per_second": round(self.training_tokens / max(self.training_seconds, 1e-9), 1),
            "learning_rate": float(self.model.optimizer.learning_rate),
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

    def _tokens(self) -> float:
        """Returns the number of real target tokens since the last evaluation, from the token metrics."""
        compiled = next(metric for metric in self.model.metrics if metric.name == "compile_metrics")
        return float(next(metric for metric in compiled.metrics if metric.name in ("nll", "tokens")).count)

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.stop()


def _duration(seconds: float) -> str:
    """Returns seconds as minutes, or as hours and minutes."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def monitored(recipe: Recipe) -> str:
    """Returns the name in the Keras logs of the score that selects the best checkpoint."""
    if recipe.training.monitor != "loss":
        return f"val_{recipe.training.monitor}"
    return build_objective(recipe.model, recipe.training).monitor


def lower_is_better(monitor: str) -> bool:
    """Returns whether a lower value of the monitored score is better."""
    return monitor == "loss" or monitor in LOWER_IS_BETTER


@contextlib.contextmanager
def evaluation_weights(model: keras.Model) -> Iterator[None]:
    """Sets the weights to their moving average inside of the context, if the optimizer has one."""
    optimizer = model.optimizer
    if not optimizer.use_ema or not optimizer.built:
        yield
        return
    own = [variable.numpy() for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    apply_masks(model)  # the average of weights that were pruned recently is not zero yet
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)
