"""What the processes of a training do together: they begin from one state and stop together, and one of them writes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.run import Run, training_state
from tfseq2seq.training.callbacks import Position
from tfseq2seq.training.distribution import Distribution


class ObservedRun(Run):
    """A run in a process that is not the chief. It writes nothing."""

    def __init__(self, run: Run):
        super().__init__(run.folder, run.recipe, run.source, run.target)

    def save_checkpoint(self, model: keras.Model, step: int) -> None:
        pass

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        pass

    def save_resume(self, model: keras.Model, progress: Mapping[str, Any]) -> None:
        pass

    def log(self, values: Mapping[str, Any]) -> None:
        pass


class StopTogether(keras.callbacks.Callback):
    """Stops the training in all processes as soon as one of them stops.

    Args:
        position: the callback that counts training steps.
        distribution: the processes.
    """

    def __init__(self, position: Position, distribution: Distribution):
        super().__init__()
        self.position, self.distribution = position, distribution

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._agree()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._agree()
        check_same_weights(self.model, self.distribution)

    def _agree(self) -> None:
        if self.distribution.any(bool(self.model.stop_training)):
            self.position.finished = self.model.stop_training = True


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


def load_shared_state(model: keras.Model, run: Run, distribution: Distribution) -> dict[str, Any]:
    """Restores the state of a run in all processes, and returns its progress. The chief alone reads files."""
    progress = run.load_resume(model) if distribution.chief else {}
    if distribution.workers == 1:
        return progress
    state = training_state(model)
    content = io.BytesIO()
    if distribution.chief:
        np.savez(
            content,
            progress=json.dumps(progress),
            **{name: keras.ops.convert_to_numpy(value) for name, value in state.items()},
        )
    with np.load(io.BytesIO(distribution.from_chief(content.getvalue()))) as saved:
        progress = json.loads(str(saved["progress"]))
        if progress and not distribution.chief:
            for name, variable in state.items():
                variable.assign(saved[name])
    return progress
