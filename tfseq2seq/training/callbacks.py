"""What happens around `fit`: scores of generated text, checkpoints, progress, limits.

One Keras epoch is the stretch from one evaluation to the next.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import rich.console
import rich.progress

from tfseq2seq.evaluation.metrics import LOWER_IS_BETTER
from tfseq2seq.run import Run
from tfseq2seq.spec import Recipe
from tfseq2seq.training.objectives import build_objective
from tfseq2seq.training.pruning import apply_masks
from tfseq2seq.training.schedules import guidance_share, sampling_share


class Position(keras.callbacks.Callback):
    """Counts updates, moves the shares of scheduled sampling and guided attention, and stops at the end.

    The end is the last update, or when time is up.

    Args:
        run: for the recipe.
        step: updates done before.
    """

    def __init__(self, run: Run, step: int):
        super().__init__()
        self.spec, self.model_spec, self.step = run.recipe.training, run.recipe.model, step
        self.began = time.monotonic()
        self.finished = step >= self.spec.steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.model.sampling is not None:
            self.model.sampling.share.assign(sampling_share(self.model_spec.scheduled_sampling, self.step))
        if self.model.guidance is not None:
            self.model.guidance.share.assign(guidance_share(self.model_spec.guided_attention, self.step))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        late = self.spec.minutes and time.monotonic() - self.began > self.spec.minutes * 60
        if self.step >= self.spec.steps or late:
            self.finished = self.model.stop_training = True


class GeneratedScore(keras.callbacks.Callback):
    """Adds a score of generated text to the logs as `val_<name>`.

    Args:
        name: of the metric.
        score: gives it for the model as it is; called with averaged weights where the optimizer keeps them.
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
    """Writes a checkpoint at each evaluation, keeps the last ones and the best one, and stops without progress.

    Args:
        run: where to write.
        position: for the step.
        saved: progress of the run being resumed, or nothing.
    """

    def __init__(self, run: Run, position: Position, saved: Mapping[str, Any]):
        super().__init__()
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
            rich.console.Console(stderr=True).print(
                f"step {step}: {self.key} is {score}; stopped, the last good checkpoint stays. A lower learning rate, "
                "a longer warm-up or training.optimizer.clip_norm usually helps."
            )
            return
        better = (
            self.best is None
            or self.best_score is None
            # A better one with fewer weights pruned is not what was asked for.
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
        }
        self.run.save_resume(self.model, progress)
        self.run.save_progress(progress)
        if self.spec.patience and self.without_progress >= self.spec.patience:
            self.model.stop_training = self.position.finished = True


class Progress(keras.callbacks.Callback):
    """A bar with loss, tokens per second and time left on a terminal; a line per evaluation; fills metrics.jsonl.

    Args:
        run: for metrics.jsonl and the limits.
        position: for the step.
    """

    def __init__(self, run: Run, position: Position):
        super().__init__()
        self.run, self.position = run, position
        self.console = rich.console.Console(stderr=True)
        self.bar: rich.progress.Progress | None = None
        self.began = self.epoch_began = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.monotonic()
        if sys.stderr.isatty():
            self.bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[state]}"),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TimeRemainingColumn(),
                console=self.console,
            )
            self.bar.start()
            total = self.run.recipe.training.steps
            self.task = self.bar.add_task("training", total=total, completed=self.position.step, state="")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_began = time.monotonic()
        self.training_seconds = self.training_tokens = 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        # Tokens per second are of training: evaluation is not counted in, and starts the count anew.
        self.training_seconds, self.training_tokens = time.monotonic() - self.epoch_began, self._tokens()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.bar is None or batch % 10:
            return
        rate = self._tokens() / max(time.monotonic() - self.epoch_began, 1e-9)
        state = f"loss {float((logs or {}).get('loss', math.nan)):.3f}  {rate:,.0f} tok/s"
        self.bar.update(self.task, completed=self.position.step, state=state)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # What a TokenCount holds is for the speed alone.
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
        self.run.log(values)
        parts = [f"step {self.position.step:,}", f"loss {values.get('loss', math.nan):.3f}"]
        parts += [
            f"{name} {value:.3f}" for name, value in values.items() if name.startswith("val_") and name != "val_loss"
        ]
        parts += [f"{values['tokens_per_second']:,.0f} tok/s", f"{values['seconds']:,.0f} s"]
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def _tokens(self) -> float:
        """Real target tokens since the last evaluation: the weight that the token metrics have summed."""
        compiled = next(metric for metric in self.model.metrics if metric.name == "compile_metrics")
        return float(next(metric for metric in compiled.metrics if metric.name in ("nll", "tokens")).count)

    def on_train_end(self, logs: Any = None) -> None:
        if self.bar is not None:
            self.bar.stop()


def monitored(recipe: Recipe) -> str:
    """The name in Keras's logs of what selects the best checkpoint."""
    if recipe.training.monitor != "loss":
        return f"val_{recipe.training.monitor}"
    return build_objective(recipe.model, recipe.training).monitor


def lower_is_better(monitor: str) -> bool:
    """Whether less of what chooses the best checkpoint is better."""
    return monitor == "loss" or monitor in LOWER_IS_BETTER


@contextlib.contextmanager
def evaluation_weights(model: keras.Model) -> Iterator[None]:
    """The moving average of the weights, where the optimizer keeps one, in place of the weights themselves."""
    optimizer = model.optimizer
    if not optimizer.use_ema or not optimizer.built:
        yield
        return
    own = [variable.numpy() for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    apply_masks(model)  # what was pruned lately is not yet zero on average
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)
