"""Magnitude pruning while training: of every weight matrix the smallest numbers become zero and stay so.

Their share grows by the cubic schedule of Zhu & Gupta 2017, fast while much is superfluous and slower at the end; it is
the same for each matrix. Biases, and scales of normalization, are few and are left alone.

What is pruned is told by the zeros themselves, so a checkpoint needs nothing beside its weights.
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
    """Holds pruned numbers of a weight at zero; optimizers apply it after each update, inside the compiled step."""

    def __init__(self, weight: Any):
        self.kept = keras.Variable(np.ones(weight.shape, bool), trainable=False, dtype="bool", name="kept")

    def __call__(self, w: Any) -> Any:
        return ops.where(self.kept, w, ops.zeros_like(w))


class Pruning(keras.callbacks.Callback):
    """Prunes the model while it trains.

    It stands behind `SwapEMAWeights`, for averaged weights to be validated as they are saved.

    Args:
        spec: how much, and when.
        step: updates done before; weights that are zero then stay so.
    """

    def __init__(self, spec: PruningSpec, step: int):
        super().__init__()
        self.spec, self.step = spec, step

    def on_train_begin(self, logs: Any = None) -> None:
        for weight in matrices(self.model):
            weight.constraint = Mask(weight)
            if sparsity(self.spec, self.step):
                weight.constraint.kept.assign(weight.numpy() != 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        if self.step == _pruned_last(self.spec, self.step):
            prune(self.model, sparsity(self.spec, self.step))

    def on_test_begin(self, logs: Any = None) -> None:
        apply_masks(self.model)

    def on_train_end(self, logs: Any = None) -> None:
        for weight in matrices(self.model):
            weight.constraint = None


def _pruned_last(spec: PruningSpec, step: int) -> int:
    """The update at which weights were pruned last, or 0."""
    done = min(step - spec.start, spec.steps)
    if done < spec.steps:
        done -= done % spec.every
    return spec.start + done if done > 0 else 0


def check_resumed(model: keras.Model, spec: PruningSpec, step: int) -> None:
    """Refuses to go on from weights that have not been pruned as they should have been by then.

    Raises:
        UserError: as said; the run was trained without pruning.
    """
    if (last := _pruned_last(spec, step)) and zeros(model) < sparsity(spec, last) - 0.01:
        raise UserError(
            f"training.pruning.start: this run is at update {step}, and not pruned from update {spec.start} on; "
            f"set it to {step}, and training.steps to more than {step + spec.steps}"
        )


def sparsity(spec: PruningSpec, step: int) -> float:
    """The share of each matrix that is zero after an update (Zhu & Gupta 2017, eq. 1)."""
    done = min(max((step - spec.start) / spec.steps, 0.0), 1.0)
    return spec.sparsity * (1.0 - (1.0 - done) ** 3)


def prune(model: keras.Model, share: float) -> None:
    """Sets the smallest numbers of each weight matrix to zero, and their masks where the model has some."""
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
    """Sets to zero what is pruned, in weights that the optimizer has not put in place itself, such as averages."""
    for weight in model.trainable_variables:
        if isinstance(weight.constraint, Mask):
            weight.assign(weight.constraint(weight))


def matrices(model: keras.Model) -> Iterator[Any]:
    """The weights of a model that are pruned."""
    # Keras's GRU has a bias of two rows.
    return (weight for weight in model.trainable_variables if len(weight.shape) > 1 and weight.name != "bias")


def zeros(model: keras.Model) -> float:
    """The share of zeros in all the weights that are pruned."""
    counts = [(np.count_nonzero(values := weight.numpy()), values.size) for weight in matrices(model)]
    return 1.0 - sum(count for count, _ in counts) / sum(size for _, size in counts)
