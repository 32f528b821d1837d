"""What the processes of a training do together: they begin from one state and stop together, and one of them writes."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.run import Resumed, Run, finite_state, training_state
from tfseq2seq.training.callbacks import Position
from tfseq2seq.training.distribution import Distribution
from tfseq2seq.training.failures import Diverged
from tfseq2seq.training.resuming import States
from tfseq2seq.training.signals import Signals


class ObservedRun(Run):
    """A run in a process that is not the chief. It writes nothing."""

    def __init__(self, run: Run):
        super().__init__(run.folder, run.recipe, run.source, run.target, run.origin)

    def save_checkpoint(self, model: keras.Model, step: int) -> None:
        pass

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        pass

    def save_resume(self, model: keras.Model, progress: Mapping[str, Any], interval: Sequence[Any] = ()) -> None:
        finite_state(model)  # as in the chief, a weight that is not finite stops the training

    def log(self, values: Mapping[str, Any]) -> None:
        pass


class Together(keras.callbacks.Callback):
    """Lets all processes stop, and write their state, after the same batch.

    The reason can be known to one of them only: a signal, a clock, or a loss that is not finite. The callback must come
    directly after `position`.

    Args:
        position: the callback that counts training steps.
        signals: the signals that have arrived at this process.
        states: writes states; the clock of the chief decides when.
        distribution: the processes.
    """

    def __init__(self, position: Position, signals: Signals, states: States, distribution: Distribution):
        super().__init__()
        self.position, self.signals, self.states, self.distribution = position, signals, states, distribution
        self._due = False
        signals.alone, states.due = False, lambda: self._due

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        finite = math.isfinite(float((logs or {}).get("loss", 0.0)))
        stopped_by, asked, due, minutes, bad = self.distribution.largest(
            [
                self.signals.received,
                self.signals.requested,
                self.distribution.chief and self.states.minutes_are_over(),
                self.position.ended == "minutes",
                not finite,
            ]
        )
        self.signals.agree(stopped_by, bool(asked))
        self._due = bool(due)
        if minutes:
            self.position.end("minutes")
        if bad:
            raise Diverged(self.position.step, "the training loss must be finite, and is not in a worker", math.nan)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._agree_to_stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._agree_to_stop()
        check_same_weights(self.model, self.distribution)

    def _agree_to_stop(self) -> None:
        (stopped_by,) = self.distribution.largest([self.signals.received])
        self.signals.agree(stopped_by, asked=False)


def check_same_weights(model: keras.Model, distribution: Distribution) -> None:
    """Checks that the weights are equal, bit for bit, in all processes. All processes must call it.

    Raises:
        UserError: they are not, because the processes were given other data or other settings.
    """
    digest = hashlib.sha256()
    for variable in model.trainable_variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    digests = distribution.gather(digest.digest())
    if different := [rank for rank, own in enumerate(digests) if own != digests[0]]:
        raise UserError(
            f"worker {different[0]}: must have the weights of worker 0, got other ones; start all workers with the "
            "same recipe, files, versions and kind of device"
        )


def load_shared_state(model: keras.Model, run: Run, distribution: Distribution, log: Callable[[str], None]) -> Resumed:
    """Restores the state of a run in all processes, and returns the rest of it. The chief alone reads the file."""
    resumed = run.load_resume(model, log) if distribution.chief else Resumed({}, {}, [])
    if distribution.workers == 1:
        return resumed
    state: dict[str, Any] = training_state(model)
    content = io.BytesIO()
    if distribution.chief:
        values: dict[str, Any] = {name: keras.ops.convert_to_numpy(variable) for name, variable in state.items()}
        values |= {f"interval_{index}": value for index, value in enumerate(resumed.interval)}
        np.savez(content, rest=json.dumps(resumed[:2]), **values)
    with np.load(io.BytesIO(distribution.from_chief(content.getvalue()))) as shared:
        progress, training = json.loads(str(shared["rest"]))
        if progress and not distribution.chief:
            for name, variable in state.items():
                variable.assign(shared[name])
        count = sum(name.startswith("interval_") for name in shared.files)
        return Resumed(progress, training, [shared[f"interval_{index}"] for index in range(count)])
