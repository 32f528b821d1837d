"""Gated convolutions over a sequence (Gehring et al. 2017), and neighboring positions made one."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class GatedConvolution(keras.layers.Layer):
    """Residual convolution with a gated linear unit: `(x + a * sigmoid(b)) / sqrt(2)` with [a; b] = conv(dropout(x)).

    Padding positions are set to zero first, so that more padding does not change real positions.

    Args:
        filters: channels of input and output.
        kernel: positions under the convolution.
        dropout: on its input.
        initializer: of its weights.
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
        """[B, S, filters] with mask [B, S] to [B, S, filters]."""
        clean = inputs * ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
        values, gates = ops.split(self.convolution(self.dropout(clean, training=training)), 2, axis=-1)
        return (inputs + values * ops.sigmoid(gates)) * 0.5**0.5

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


def masked_pool(inputs: Any, mask: Any, size: int) -> tuple[Any, Any]:
    """Averages each `size` neighboring real positions into one.

    Args:
        inputs: [B, S, D].
        mask: [B, S], True on real positions.

    Returns:
        [B, ceil(S / size), D] and its mask; a group with any real position is real.
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
    """Puts each two neighboring positions side by side.

    Args:
        inputs: [B, S, D]; what stands where the mask is False does not matter.
        mask: [B, S], True on real positions.

    Returns:
        [B, ceil(S / 2), 2 D] and its mask; a pair is real if its first position is. A missing second one is zero.
    """
    length, width = ops.shape(inputs)[1], inputs.shape[-1]
    missing = length % 2
    clean = ops.pad(inputs * ops.expand_dims(ops.cast(mask, inputs.dtype), -1), ((0, 0), (0, missing), (0, 0)))
    pairs = ops.reshape(clean, (-1, (length + missing) // 2, 2 * width))
    return pairs, mask[:, ::2]
