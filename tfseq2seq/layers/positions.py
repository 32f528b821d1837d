"""Position encodings: vectors to add to token embeddings, biases of attention, and the rotation of queries and keys.

Angles are in float32. In 16 bits distant positions would get equal angles. The layers of keras-hub give the same
results, as the tests show. They use several einsums, which are slow in a decoding step, and take seconds to import.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


class PositionedEmbedding(keras.layers.Layer):
    """Scales token vectors by the square root of their width, adds absolute positions, and applies a norm and dropout.

    Because of the scale, which can be off, one matrix can serve as embedding and as output layer (Vaswani et al. 2017,
    section 3.4). Its initial standard deviation is D^-0.5, which suits logits. The scaled vectors have standard
    deviation 1.

    Args:
        width: D.
        positions: "sinusoidal" (fixed) or "learned". With other values no positions are added here.
        max_positions: the number of learned positions.
        dropout: the dropout rate on the sum.
        norm_epsilon: the epsilon of a layer normalization of the sum; 0 for no normalization.
        scaled: whether token vectors are scaled.
    """

    def __init__(
        self,
        width: int,
        positions: str = "none",
        max_positions: int = 1024,
        dropout: float = 0.0,
        norm_epsilon: float = 0.0,
        scaled: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scaled = scaled
        self.norm_epsilon, self.norm = norm_epsilon, None
        if norm_epsilon:
            self.norm = keras.layers.LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)
        self.width, self.positions, self.max_positions, self.dropout_rate = width, positions, max_positions, dropout
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        if self.positions == "learned":
            self.table = self.add_weight(
                shape=(self.max_positions, self.width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name="positions",
            )
        if self.norm is not None:
            self.norm.build((None, None, self.width))

    def call(self, inputs: Any, start: Any = None, training: bool | None = None) -> Any:
        """Returns [B, T, D] for token vectors [B, T, D].

        Args:
            start: None if the T rows are at positions 0 to T - 1. A scalar if all rows are at this position, as the
                hypotheses in a decoding step.
        """
        outputs = inputs * self.width**0.5 if self.scaled else inputs
        if self.positions == "sinusoidal":
            rows = sinusoids(self._indices(inputs, start), self.width)
            outputs = outputs + ops.expand_dims(ops.cast(rows, inputs.dtype), 0)
        elif self.positions == "learned":
            # Positions after the end of the table use its last row, because `take` must not read out of bounds.
            indices = ops.minimum(self._indices(inputs, start), self.max_positions - 1)
            outputs = outputs + ops.expand_dims(ops.take(ops.cast(self.table, inputs.dtype), indices, axis=0), 0)
        if self.norm is not None:
            outputs = self.norm(outputs)
        return self.dropout(outputs, training=training)

    @staticmethod
    def _indices(inputs: Any, start: Any) -> Any:
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
            "norm_epsilon": self.norm_epsilon,
            "scaled": self.scaled,
        }


class BucketedPositions(keras.layers.Layer):
    """A learned bias of attention scores for each head and bucket of distances (Raffel et al. 2020, section 2.1).

    Half of the buckets of a direction have one distance each. The others have ranges that grow with the logarithm of
    the distance.

    Args:
        heads: H, the number of heads.
        buckets: the number of buckets.
        distance: the distance from which on all distances are in the last bucket.
        causal: whether keys are never after queries, so that all buckets are for distances backward. Otherwise half of
            the buckets are for each direction.
    """

    def __init__(self, heads: int, buckets: int, distance: int, causal: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {"heads": heads, "buckets": buckets, "distance": distance, "causal": causal}
        self.distance = distance
        backward = _buckets(buckets if causal else buckets // 2, distance)
        # By the distance key - query, from -distance to distance.
        forward = np.zeros(distance, "int32") if causal else backward[1:] + buckets // 2
        self._bucket_of = np.concatenate([backward[::-1], forward]).astype("int32")

    def build(self, input_shape: Any = None) -> None:
        shape = self.settings["buckets"], self.settings["heads"]
        self.table = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02), name="table"
        )

    def call(self, query_positions: Any, key_positions: Any) -> Any:
        """Returns the bias [1, H, Q, S] for positions [Q] and [S] int."""
        distances = ops.expand_dims(key_positions, 0) - ops.expand_dims(query_positions, 1)
        indices = ops.clip(distances, -self.distance, self.distance) + self.distance
        # Per distance first, since a table of a few hundred rows is gathered faster than a bias of all pairs.
        by_distance = ops.take(ops.cast(self.table, self.compute_dtype), self._bucket_of, axis=0)
        return ops.expand_dims(ops.transpose(ops.take(by_distance, indices, axis=0), (2, 0, 1)), 0)

    def compute_output_spec(self, query_positions: Any, key_positions: Any) -> Any:
        shape = 1, self.settings["heads"], query_positions.shape[0], key_positions.shape[0]
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


def _buckets(count: int, distance: int) -> np.ndarray:
    """Returns the bucket of each distance from 0 to `distance`, among `count` of one direction."""
    exact, distances = count // 2, np.arange(distance + 1)
    # In float32, as in other toolkits: rounding decides about distances at the border of two buckets.
    shares = np.log(np.maximum(distances, 1).astype("float32") / np.float32(exact)) / np.float32(
        np.log(distance / exact)
    )
    far = exact + (shares * np.float32(count - exact)).astype("int32")
    return np.where(distances < exact, distances, np.minimum(far, count - 1))


def sinusoids(indices: Any, width: int) -> Any:
    """Returns sinusoidal position vectors [T, D] float32 for positions [T] (Vaswani et al. 2017, section 3.5).

    Even columns are sines and odd columns are cosines. The wavelengths are from 2 pi to 10000 * 2 pi.
    """
    columns = np.arange(width)
    rates = ops.convert_to_tensor(10000.0 ** (-2.0 * (columns // 2) / width), "float32")
    angles = ops.expand_dims(ops.cast(indices, "float32"), 1) * rates
    return ops.where(ops.convert_to_tensor(columns % 2 == 0, "bool"), ops.sin(angles), ops.cos(angles))


def rotate(inputs: Any, indices: Any) -> Any:
    """Rotates queries or keys [B, H, T, d] by their positions [T] (rotary positions, Su et al. 2021).

    Each pair of columns (i, i + d / 2) is rotated by position * 10000^(-2i / d). The product of a query and a key then
    depends only on the distance of their positions.
    """
    half = inputs.shape[-1] // 2
    rates = ops.convert_to_tensor(10000.0 ** (-np.arange(half) / half), "float32")
    angles = ops.expand_dims(ops.cast(indices, "float32"), 1) * rates
    sines, cosines = ops.sin(angles), ops.cos(angles)
    first, second = ops.split(ops.cast(inputs, "float32"), 2, axis=-1)
    rotated = ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
    return ops.cast(rotated, inputs.dtype)
