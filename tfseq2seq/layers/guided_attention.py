"""Guided attention: a loss that grows with the distance of attention from the diagonal (Tachibana et al. 2018)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class GuidedAttention(keras.layers.Layer):
    """Adds a loss, in training, for attending early in the source while late in the target, or late while early.

    Attention a_ts at target position t of T and source position s of S costs

        a_ts (1 - exp(-(t/T - s/S)^2 / 2 width^2))

    and the loss is the mean over real target positions of the sum over s, from 0 to 1, times `weight` and `share`.
    Tachibana et al. take the mean over s as well, which makes the same weight worth less the longer the source is.

    Args:
        weight: of the loss.
        width: how far off the diagonal, as a share of the whole, costs 0.39 (one deviation).

    `share` is a weight of the layer, 1 at first, so that a callback can move it while a compiled step runs.
    """

    def __init__(self, weight: float, width: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.weight, self.width = weight, width
        # Not cast: the loss it scales is float32 under every dtype policy, and TensorFlow multiplies no two dtypes.
        self.share = self.add_weight(
            shape=(), initializer="ones", trainable=False, autocast=False, dtype="float32", name="share"
        )

    def call(
        self, hidden: Any, attention: Any, memory_mask: Any, target_mask: Any, training: bool | None = None
    ) -> Any:
        """Hidden vectors [B, T, D], as they are; attention [B, T, S] and the masks [B, S] and [B, T] make the loss."""
        if training:
            real = ops.cast(target_mask, "float32")
            apart = ops.expand_dims(_places(real), 2) - ops.expand_dims(_places(ops.cast(memory_mask, "float32")), 1)
            costs = 1.0 - ops.exp(-ops.square(apart) / (2.0 * self.width**2))
            costs = ops.sum(ops.cast(attention, "float32") * costs, axis=-1)
            mean = ops.sum(costs * real) / ops.maximum(ops.sum(real), 1.0)
            self.add_loss(self.weight * self.share * mean)
        return hidden

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "width": self.width}


def _places(real: Any) -> Any:
    """[B, N], 1 where real, to each position's number from 1 to the last one's, as a share of that."""
    return ops.cumsum(real, axis=1) / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0)
