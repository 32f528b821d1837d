"""Profiles some updates of a training with the TensorFlow profiler."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfseq2seq.progress import print_line
from tfseq2seq.run import Run
from tfseq2seq.training.callbacks import Position


class Profile(keras.callbacks.Callback):
    """Writes the times of the operations in the updates of `training.profile` to the logs of the run.

    Args:
        run: the run.
        position: the callback that counts training steps, which is called before this one.
    """

    def __init__(self, run: Run, position: Position):
        super().__init__()
        self.first, self.last = run.recipe.training.profile
        self.position, self.folder = position, str(run.folder / "logs")
        self.active = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self.active and self.first - 1 <= self.position.step < self.last:
            self.began, self.active = self.position.step + 1, True
            tf.profiler.experimental.start(self.folder)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.active and self.position.step >= self.last:
            self._stop()

    def on_train_end(self, logs: Any = None) -> None:
        if self.active:
            self._stop()

    def _stop(self) -> None:
        self.active = False
        tf.profiler.experimental.stop()
        print_line(
            f"profile of steps {self.began:,} to {self.position.step:,}: {self.folder}/plugins/profile; to see it, "
            f"`pip install tensorboard-plugin-profile`, run `tensorboard --logdir {self.folder}`, and open the tab "
            "Profile"
        )
