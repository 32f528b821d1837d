"""Gated convolutions over a sequence (Gehring et al. 2017), and functions that join neighboring positions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.rematerialization import Rematerializable, recomputed


class GatedConvolution(Rematerializable, keras.layers.Layer):
    """Residual convolution with a gated linear unit: `(x + a * sigmoid(b)) / sqrt(2)` with [a; b] = conv(dropout(x)).

    Padding positions are set to zero first, so the amount of padding does not change real positions.

    Args:
        filters: the number of input and output channels.
        kernel: the kernel size, in positions.
        dropout: the dropout rate on the input.
        initializer: the initializer of the weights.
    """

    def __init__(self, filters: int, kernel: int, dropout: float, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {"filters": filters, "kernel": kernel, "dropout": dropout, "initializer": initializer}
        self.convolution = keras.layers.Conv1D(
            2 * filters,
            kernel,
            padding="same",
            kernel_initializer=initializer,
            name="convolution",
            dtype=self.dtype_policy,
        )
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.convolution.build((None, None, self.settings["filters"]))

    def call(self, inputs: Any, mask: Any, training: bool | None = None) -> Any:
        """Returns [B, S, filters] for inputs [B, S, filters] with mask [B, S]."""
        if training and self.rematerialize:
            return recomputed(self, lambda x: [self._compute(x, mask, True)], inputs)[0]
        return self._compute(inputs, mask, training)

    def _compute(self, inputs: Any, mask: Any, training: bool | None) -> Any:
        """As `call`, with all activations kept for the backward pass."""
        clean = inputs * ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        values, gates = ops.split(self.convolution(self.dropout(clean, training=training)), 2, axis=-1)
        return (inputs + values * ops.sigmoid(gates)) * 0.5**0.5

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


def masked_pool(inputs: Any, mask: Any, size: int) -> tuple[Any, Any]:
    """Averages the real positions in each group of `size` neighboring positions.

    Args:
        inputs: [B, S, D].
        mask: [B, S], True on real positions.
        size: the number of positions in a group.

    Returns:
        Means [B, ceil(S / size), D] and their mask. A group with at least one real position is real.
    """
    length, width = ops.shape(inputs)[1], inputs.shape[-1]
    missing = (-length) % size
    weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
    summed = ops.pad(inputs * weights, ((0, 0), (0, missing), (0, 0)))
    counted = ops.pad(weights, ((0, 0), (0, missing), (0, 0)))
    summed = ops.sum(ops.reshape(summed, (-1, (length + missing) // size, size, width)), axis=2)
    counted = ops.sum(ops.reshape(counted, (-1, (length + missing) // size, size, 1)), axis=2)
    return summed / ops.maximum(counted, 1.0), ops.squeeze(counted, -1) > 0


def join_pairs(inputs: Any, mask: Any) -> tuple[Any, Any]:
    """Concatenates the vectors of each pair of neighboring positions.

    Args:
        inputs: [B, S, D]. Values at padding positions have no effect.
        mask: [B, S], True on real positions.

    Returns:
        Pairs [B, ceil(S / 2), 2 D] and their mask. A pair is real if its first position is real. If its second
        position is missing or padding, zeros take its place.
    """
    length, width = ops.shape(inputs)[1], inputs.shape[-1]
    missing = length % 2
    clean = ops.pad(inputs * ops.expand_dims(ops.cast(mask, inputs.dtype), -1), ((0, 0), (0, missing), (0, 0)))
    pairs = ops.reshape(clean, (-1, (length + missing) // 2, 2 * width))
    return pairs, mask[:, ::2]
