"""Magnitude pruning: in training, the smallest entries of each weight matrix become zero and stay zero.

The share of zeros is the same in each matrix. It grows by the cubic schedule of Zhu & Gupta 2017: fast at first, while
there are many superfluous entries, and slowly at the end. Biases and the scales of normalization have few entries and
are not pruned.

The zeros show which entries are pruned, so a checkpoint needs only the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfseq2seq.errors import UserError
from tfseq2seq.spec import PruningSpec


class Mask(keras.constraints.Constraint):
    """Keeps the pruned entries of a weight at zero. Optimizers apply it after each update, in the compiled step."""

    def __init__(self, weight: Any):
        self.kept = keras.Variable(np.ones(weight.shape, bool), trainable=False, dtype="bool", name="kept")

    def __call__(self, w: Any) -> Any:
        return ops.where(self.kept, w, ops.zeros_like(w))


class Pruning(keras.callbacks.Callback):
    """Prunes the model in training.

    The callback must be after `SwapEMAWeights`. Averaged weights are then pruned before validation, as they are saved.

    Args:
        spec: the settings of the pruning.
        step: the number of previous training steps. If pruning has started, entries that are zero stay zero.
        accumulate: the number of batches of a step.
    """

    def __init__(self, spec: PruningSpec, step: int, accumulate: int = 1):
        super().__init__()
        self.spec, self.step, self.accumulate = spec, step, accumulate

    def on_train_begin(self, logs: Any = None) -> None:
        for weight in matrices(self.model):
            weight.constraint = Mask(weight)
            # Before the first pruning, a weight may be zero for other reasons.
            if _pruned_last(self.spec, self.step):
                weight.constraint.kept.assign(weight.numpy() != 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (batch + 1) % self.accumulate:
            return
        self.step += 1
        if self.step == _pruned_last(self.spec, self.step):
            prune(self.model, sparsity(self.spec, self.step))

    def on_test_begin(self, logs: Any = None) -> None:
        apply_masks(self.model)

    def on_train_end(self, logs: Any = None) -> None:
        for weight in matrices(self.model):
            weight.constraint = None


def _pruned_last(spec: PruningSpec, step: int) -> int:
    """Returns the last step at which weights were pruned, or 0."""
    done = min(step - spec.start, spec.steps)
    if done < spec.steps:
        done -= done % spec.every
    return spec.start + done if done > 0 else 0


def check_resumed(model: keras.Model, spec: PruningSpec, step: int) -> None:
    """Checks that the weights of a resumed run are pruned as its recipe requires at this step.

    Raises:
        UserError: the weights have too few zeros, because the run was trained without pruning.
    """
    if (last := _pruned_last(spec, step)) and zeros(model) < sparsity(spec, last) - 0.01:
        raise UserError(
            f"training.pruning.start: must be at least {step}, as this run has no pruned weights up to this step, "
            f"got {spec.start}; also set training.steps to more than {step + spec.steps}"
        )


def sparsity(spec: PruningSpec, step: int) -> float:
    """Returns the share of zeros in each matrix after a step (Zhu & Gupta 2017, eq. 1)."""
    done = min(max((step - spec.start) / spec.steps, 0.0), 1.0)
    return spec.sparsity * (1.0 - (1.0 - done) ** 3)


def prune(model: keras.Model, share: float) -> None:
    """Sets a share of each weight matrix, its smallest entries, to zero. Also updates its mask, if it has one."""
    for weight in matrices(model):
        values = weight.numpy()
        kept = np.ones(values.size, bool)
        count = round(share * values.size)
        if count:
            kept[np.argpartition(np.abs(values), count - 1, axis=None)[:count]] = False
        kept = kept.reshape(values.shape)
        if isinstance(weight.constraint, Mask):
            weight.constraint.kept.assign(kept)
        weight.assign(np.where(kept, values, 0))


def apply_masks(model: keras.Model) -> None:
    """Sets the pruned entries of all weights to zero, for weights that do not come from an update, such as averages."""
    for weight in model.trainable_variables:
        if isinstance(weight.constraint, Mask):
            weight.assign(weight.constraint(weight))


def matrices(model: keras.Model) -> Iterator[Any]:
    """Yields the weights of a model that are pruned."""
    # The bias of a Keras GRU also has two axes.
    return (weight for weight in model.trainable_variables if len(weight.shape) > 1 and weight.name != "bias")


def zeros(model: keras.Model) -> float:
    """Returns the share of zeros in all weights that are pruned."""
    counts = [(np.count_nonzero(values := weight.numpy()), values.size) for weight in matrices(model)]
    return 1.0 - sum(count for count, _ in counts) / sum(size for _, size in counts)
