"""Dense layers over sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


class SequenceDense(keras.layers.Dense):
    """`keras.layers.Dense` for inputs [B, T, D] or of higher rank, computed as one matrix product over all rows.

    The results are those of `Dense`. On TensorFlow `Dense` calls `tf.tensordot`, which adds ten operations on shapes to
    each product. In a decoding step with few rows they take more time than the product.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(inputs.shape) < 3:
            return super().call(inputs, training=training)
        leading = ops.shape(inputs)[1:-1]
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training=training)
        return ops.reshape(rows, (-1, *leading, self.units))


def side_by_side(initializer: str, widths: Sequence[int]) -> Callable[..., Any]:
    """Returns an initializer of a matrix that consists of several matrices side by side.

    Args:
        initializer: the name of the initializer. It draws each of the matrices separately.
        widths: the widths of the matrices.
    """

    def draw(shape: Any, dtype: Any = None) -> Any:
        parts = [keras.initializers.get(initializer)((*shape[:-1], width), dtype) for width in widths]
        return ops.concatenate(parts, axis=-1)

    return draw
