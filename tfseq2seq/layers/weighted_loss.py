"""The base class of losses whose mean over real tokens is multiplied by the sample weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class WeightedLoss(keras.losses.Loss):
    """Sum of loss times sample weight, divided by the number of real tokens.

    A mean of Keras divides by the sum of the weights, so a factor of all weights has no effect. Here it multiplies the
    loss. A batch can therefore have a share of an update that is made of several batches; see
    `training.batches.accumulated`. Without a factor both are equal.
    """

    def __init__(self, name: str, **kwargs: Any):
        super().__init__(name=name, **{"reduction": "mean_with_sample_weight", **kwargs})

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        loss = super().__call__(y_true, y_pred, sample_weight)
        if sample_weight is None or self.reduction != "mean_with_sample_weight":
            return loss
        tokens = ops.cast(self.tokens(y_true), loss.dtype)
        return loss * (ops.sum(ops.cast(sample_weight, loss.dtype)) / ops.maximum(tokens, 1.0))

    def tokens(self, y_true: Any) -> Any:
        """Returns the number of real tokens in labels [B, T]: the sum of the sample weights of a single batch."""
        raise NotImplementedError
