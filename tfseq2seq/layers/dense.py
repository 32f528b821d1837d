"""Dense layers over sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


class SequenceDense(keras.layers.Dense):
    """`keras.layers.Dense` over the last axis of [B, T, D] or longer shapes, computed as one matrix product over rows.

    The same numbers as `Dense`, which on TensorFlow finds its way through `tf.tensordot`: ten operations on shapes for
    each product, more time than the product itself where a decoding step has few rows.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if len(inputs.shape) < 3:
            return super().call(inputs, training=training)
        leading = ops.shape(inputs)[1:-1]
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])), training=training)
        return ops.reshape(rows, (-1, *leading, self.units))


def side_by_side(initializer: str, widths: Sequence[int]) -> Callable[..., Any]:
    """An initializer of a matrix that stands for several: each of the given widths is drawn as one of its own."""

    def draw(shape: Any, dtype: Any = None) -> Any:
        parts = [keras.initializers.get(initializer)((*shape[:-1], width), dtype) for width in widths]
        return ops.concatenate(parts, axis=-1)

    return draw
