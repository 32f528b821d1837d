"""Callbacks that write and restore the state of a training at any update.

A Keras epoch is the time from one evaluation to the next. A state is written after an evaluation, and also at updates
between two evaluations. A state from between two evaluations also has what this epoch has summed up so far: the
variables of all metrics, and the time. A state from within an evaluation is that from before the evaluation, which is
then done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.progress import print_line
from tfseq2seq.run import NotFiniteError, Resumed, Run
from tfseq2seq.training.batches import TrainingBatches
from tfseq2seq.training.failures import Diverged
from tfseq2seq.training.signals import Signals


class Counting(Protocol):
    """What counts steps, and the batches that were drawn from the dataset; see `Position`."""

    step: int
    drawn: int
    finished: bool


class Stateful(Protocol):
    """A callback with values that belong to the state."""

    def state(self) -> dict[str, Any]:
        """Returns the values, for JSON."""


class States(keras.callbacks.Callback):
    """Writes the state between evaluations: every so many updates and minutes, and when a signal asks for it.

    The callback must come after those that change the model at the end of an update.

    Args:
        run: the run.
        position: counts steps.
        batches: tells the position in the training data.
        signals: what has arrived.
        resumed: the state that the training continues from. Its metrics are restored.
        progress: returns the values of progress.json as of the last evaluation, without the step.
        parts: further callbacks whose values belong to the state, by name.

    Attributes:
        saved: the step of the last state that could be written, or None.
        due: tells whether `checkpoint_minutes` asks for a state. With several processes the chief decides for all.
    """

    def __init__(
        self,
        run: Run,
        position: Counting,
        batches: TrainingBatches,
        signals: Signals,
        resumed: Resumed,
        progress: Callable[[], dict[str, Any]],
        parts: Mapping[str, Stateful],
    ):
        super().__init__()
        self.run, self.position, self.batches, self.signals = run, position, batches, signals
        self.spec, self.progress, self.parts = run.recipe.training, progress, parts
        self.saved: int | None = resumed.progress.get("step")
        self._interval = resumed.interval
        self._evaluated: tuple[dict[str, Any], list[np.ndarray]] | None = None
        self._written = time.monotonic()
        self.due: Callable[[], bool] = self.minutes_are_over

    def minutes_are_over(self) -> bool:
        """Returns whether `checkpoint_minutes` have passed since the last state."""
        minutes = self.spec.checkpoint_minutes
        return bool(minutes and time.monotonic() - self._written > minutes * 60)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Keras has just reset all metrics.
        variables = metric_variables(self.model)
        for variable, value in zip(variables if self._interval else [], self._interval, strict=True):
            variable.assign(value)
        self._interval = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (batch + 1) % self.spec.optimizer.accumulate:
            return
        evaluates = self.position.finished or self.position.step % self.spec.evaluate_every == 0
        if self._is_due(evaluates):
            self._try(self._contents(evaluates), metric_values(self.model))
        self.signals.check()

    def _is_due(self, evaluates: bool) -> bool:
        """Returns whether to write the state at this update, which an evaluation follows or not."""
        every = self.spec.checkpoint_every
        return (
            bool(self.signals.stopped_by)
            or self.signals.asked
            # An evaluation writes the state too, but may take long.
            or bool(every and self.position.step % every == 0 and not evaluates)
            or self.due()
        )

    def on_test_begin(self, logs: Any = None) -> None:
        # The evaluation resets all metrics.
        self._evaluated = self._contents(evaluates=True), metric_values(self.model)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.signals.check()

    def write_interrupted_evaluation(self) -> None:
        """Writes the state from before an evaluation that was interrupted, if there is one.

        The weights of the model must be those of training.
        """
        if self._evaluated is not None:
            self._try(*self._evaluated)

    def write(self, progress: Mapping[str, Any]) -> None:
        """Writes the state after an evaluation.

        Raises:
            UserError: it cannot be written.
            Diverged: a weight is not finite.
        """
        self._evaluated = None
        self._save({**self._contents(evaluates=False), **progress}, [])

    def _contents(self, evaluates: bool) -> dict[str, Any]:
        """Returns the progress, and under "training" the values of the parts of the training.

        Args:
            evaluates: whether a training that continues from this state begins with an evaluation.
        """
        training: dict[str, Any] = {name: part.state() for name, part in self.parts.items()}
        training |= {"data": self.batches.position(self.position.drawn), "evaluates": evaluates}
        return {**self.progress(), "step": self.position.step, "training": training}

    def _try(self, contents: dict[str, Any], interval: list[np.ndarray]) -> None:
        """Writes a state. If the file cannot be written, it is told, and the training goes on."""
        try:
            self._save(contents, interval)
        except Diverged:
            raise
        except UserError as error:
            print_line(f"warning: {error}; the state of step {contents['step']:,} is not saved, and {self.stays}")

    @property
    def stays(self) -> str:
        """What is left if a state cannot be written, for messages."""
        return f"the state of step {self.saved:,} stays" if self.saved is not None else "there is no state yet"

    def _save(self, contents: dict[str, Any], interval: list[np.ndarray]) -> None:
        # Also after a failure: the next try comes when the next state is due.
        asked, self.signals.asked, self._written = self.signals.asked, False, time.monotonic()
        try:
            self.run.save_resume(self.model, contents, interval)
        except NotFiniteError as error:
            raise Diverged(contents["step"], f"all weights must be finite, got others in {error}") from None
        self.saved = contents["step"]
        if asked:
            print_line(f"step {self.saved:,}: the state is written, as SIGUSR1 asked for")


class InterruptedEvaluation(keras.callbacks.Callback):
    """Does an evaluation again in which the training was stopped, before the first update.

    The callback must be the last one.

    Args:
        validation: the validation batches.
        steps: the number of these batches.
        epoch: the epoch that ends with this evaluation.
        position: tells whether the training has ended with this evaluation.

    Attributes:
        callbacks: all callbacks of the training, this one included.
    """

    callbacks: keras.callbacks.CallbackList

    def __init__(self, validation: Any, steps: int, epoch: int, position: Counting):
        super().__init__()
        self.validation, self.steps, self.epoch, self.position = validation, steps, epoch, position

    def on_train_begin(self, logs: Any = None) -> None:
        self.callbacks.on_epoch_begin(self.epoch)
        trained = self.model.get_metrics_result()
        found = self.model.evaluate(
            self.validation, steps=self.steps, callbacks=self.callbacks, verbose=0, return_dict=True
        )
        self.callbacks.on_epoch_end(self.epoch, {**trained, **{f"val_{name}": value for name, value in found.items()}})
        if self.position.finished:
            raise Ended


class Ended(Exception):
    """The training has ended before its first update."""


def metric_variables(model: keras.Model) -> list[Any]:
    """Returns the variables of all metrics and of the mean loss, in an order that is the same in each process."""
    return [variable for metric in model.metrics for variable in metric.variables]


def metric_values(model: keras.Model) -> list[np.ndarray]:
    """Returns copies of the values of `metric_variables`."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in metric_variables(model)]


def build_metrics(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Creates the variables of the metrics, which Keras does only in the first update."""

    @tf.function
    def evaluated(inputs: Any, labels: Any, weights: Any) -> None:
        outputs = model(inputs, training=False)
        model.compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=weights, training=False)
        model.compute_metrics(inputs, labels, outputs, sample_weight=weights)

    # It is traced, but never called.
    evaluated.get_concrete_function(*batches.element_spec)
