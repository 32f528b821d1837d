"""Guided attention: a loss that penalizes attention far from the diagonal (Tachibana et al. 2018)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class GuidedAttention(keras.layers.Layer):
    """Adds a loss in training if attention is far from the diagonal.

    The cost of attention weight a_ts, at target position t of T and source position s of S, is

        a_ts (1 - exp(-(t/T - s/S)^2 / 2 width^2))

    The loss is the sum over s and over real target positions, times `weight` and `share`. `Trainable.compute_loss`
    multiplies it by the sample weight of a token, which makes it a mean over the real target positions of an update,
    between 0 and 1. Tachibana et al. also take the mean over s. The effect of a weight would then depend on the source
    length.

    Args:
        weight: the weight of the loss.
        width: the standard deviation of the penalty, as a share of the lengths. At this distance the cost is 0.39 a_ts.

    `share` is initially 1. It is a weight of the layer, so a callback can change it between compiled training steps.
    """

    def __init__(self, weight: float, width: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.weight, self.width = weight, width
        # `share` stays float32 under all dtype policies, because the loss is float32 and TensorFlow does not convert.
        self.share = self.add_weight(
            shape=(), initializer="ones", trainable=False, autocast=False, dtype="float32", name="share"
        )

    def call(
        self, hidden: Any, attention: Any, memory_mask: Any, target_mask: Any, training: bool | None = None
    ) -> Any:
        """Returns the hidden vectors [B, T, D] unchanged, and adds the loss in training.

        Args:
            attention: [B, T, S], the attention weights.
            memory_mask: [B, S], True on real source positions.
            target_mask: [B, T], True on real target positions.
        """
        if training:
            real = ops.cast(target_mask, "float32")
            source_positions = _relative_positions(ops.cast(memory_mask, "float32"))
            distances = ops.expand_dims(_relative_positions(real), 2) - ops.expand_dims(source_positions, 1)
            costs = 1.0 - ops.exp(-ops.square(distances) / (2.0 * self.width**2))
            costs = ops.sum(ops.cast(attention, "float32") * costs, axis=-1)
            self.add_loss(self.weight * self.share * ops.sum(costs * real))
        return hidden

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "width": self.width}


def _relative_positions(real: Any) -> Any:
    """Returns n/N for the n-th of N real positions, as [B, N]. The input [B, N] is 1 at real positions, 0 elsewhere."""
    return ops.cumsum(real, axis=1) / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0)
