"""Positions: added to token embeddings, or turning queries and keys.

Angles are in float32: in 16 bits far positions would fall together. keras-hub's layers give the same numbers (the tests
say so) by several einsums, for which a decoding step has no time, and take seconds to import.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


class PositionedEmbedding(keras.layers.Layer):
    """Scales token vectors by the root of their width, adds absolute positions and applies dropout.

    The scale lets one matrix serve as embedding and as output layer (Vaswani et al. 2017, section 3.4): it starts with
    deviation D^-0.5, right for logits, and the scaled vectors have deviation 1.

    Args:
        width: D.
        positions: "sinusoidal" (fixed) or "learned"; other kinds enter elsewhere and nothing is added here.
        max_positions: rows of the learned table.
        dropout: on the sum.
    """

    def __init__(
        self, width: int, positions: str = "none", max_positions: int = 1024, dropout: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.width, self.positions, self.max_positions, self.dropout_rate = width, positions, max_positions, dropout
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.positions == "learned":
            self.table = self.add_weight(
                shape=(self.max_positions, self.width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name="positions",
            )

    def call(self, inputs: Any, start: Any = None, training: bool | None = None) -> Any:
        """[B, T, D] token vectors to [B, T, D].

        Args:
            start: None when the T rows are successive positions from 0; a scalar when all of them stand at that one
                position, as the hypotheses of a decoding step do.
        """
        outputs = inputs * self.width**0.5
        if self.positions == "sinusoidal":
            rows = sinusoids(self._places(inputs, start), self.width)
            outputs = outputs + ops.expand_dims(ops.cast(rows, inputs.dtype), 0)
        elif self.positions == "learned":
            # Past the end of the table the last row is repeated rather than read out of bounds.
            indices = ops.minimum(self._places(inputs, start), self.max_positions - 1)
            outputs = outputs + ops.expand_dims(ops.take(ops.cast(self.table, inputs.dtype), indices, axis=0), 0)
        return self.dropout(outputs, training=training)

    @staticmethod
    def _places(inputs: Any, start: Any) -> Any:
        if start is not None:
            return ops.reshape(ops.cast(start, "int32"), (1,))
        return ops.arange(ops.shape(inputs)[1], dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "positions": self.positions,
            "max_positions": self.max_positions,
            "dropout": self.dropout_rate,
        }


def sinusoids(indices: Any, width: int) -> Any:
    """[T] places to [T, D] float32: sines in even and cosines in odd columns, of wavelengths from 2 pi to 10000 * 2 pi
    (Vaswani et al. 2017, section 3.5)."""
    columns = np.arange(width)
    rates = ops.convert_to_tensor(10000.0 ** (-2.0 * (columns // 2) / width), "float32")
    angles = ops.expand_dims(ops.cast(indices, "float32"), 1) * rates
    return ops.where(ops.convert_to_tensor(columns % 2 == 0, "bool"), ops.sin(angles), ops.cos(angles))


def rotate(inputs: Any, indices: Any) -> Any:
    """Queries or keys [B, H, T, d] at places [T], each pair of columns (i, i + d / 2) turned by place * 10000^(-2i / d)
    (Su et al. 2021): their products then depend on the distance of the places alone."""
    half = inputs.shape[-1] // 2
    rates = ops.convert_to_tensor(10000.0 ** (-np.arange(half) / half), "float32")
    angles = ops.expand_dims(ops.cast(indices, "float32"), 1) * rates
    sines, cosines = ops.sin(angles), ops.cos(angles)
    first, second = ops.split(ops.cast(inputs, "float32"), 2, axis=-1)
    turned = ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
    return ops.cast(turned, inputs.dtype)
