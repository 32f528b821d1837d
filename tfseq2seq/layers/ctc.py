"""The output layer of connectionist temporal classification (CTC, Graves et al. 2006).

The blank has the id of <pad>, which no transcript contains. At positions after the end of an utterance the blank has
probability 1. These positions do not change the probability of any transcript, so losses and searches need only the
logits and no lengths.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.spec import BLANK

_LOWEST = -1e9
# The initial bias of the blank, which gives it a probability of about 80 % among six labels. With an initial bias of 0
# and few labels, training can get stuck in a state where the model emits the same label for all words.
_BLANK_BIAS = 3.0


def blank_first(shape: Any, dtype: Any = None) -> Any:
    """Returns the initial bias [V]: 3 for the blank, and 0 for other labels."""
    return ops.one_hot(BLANK, shape[0], dtype=dtype) * _BLANK_BIAS


def blank_past_end(logits: Any, mask: Any) -> Any:
    """Sets logits [B, F, ..., V] to 0 for the blank and -1e9 for other labels where mask [B, F] is False.

    Returns:
        Float32 logits [B, F, ..., V].
    """
    logits = ops.cast(logits, "float32")
    inner = [1] * (len(logits.shape) - 2)
    only_blank = ops.where(ops.equal(ops.arange(logits.shape[-1]), BLANK), 0.0, _LOWEST)
    real = ops.reshape(mask, (-1, ops.shape(mask)[1], *inner))
    return ops.where(real, logits, ops.cast(ops.reshape(only_blank, (1, 1, *inner[1:], -1)), "float32"))


def real_positions(logits: Any) -> Any:
    """Returns the mask [B, F] bool that `blank_past_end` applied to its result [B, F, V]."""
    return logits[:, :, BLANK + 1] > _LOWEST / 2


class CTCOutput(keras.layers.Layer):
    """Maps memory [B, F, M] with mask [B, F] to float32 logits [B, F, V]; see `blank_past_end`.

    Args:
        size: V, with the blank.
        memory_width: M.
        dropout: the dropout rate on the memory.
        initializer: the initializer of the weight matrix.
    """

    def __init__(self, size: int, memory_width: int, dropout: float, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {
            "size": size,
            "memory_width": memory_width,
            "dropout": dropout,
            "initializer": initializer,
        }
        self.memory_width, self.supports_masking = memory_width, True
        self.dense = SequenceDense(
            size,
            kernel_initializer=initializer,
            bias_initializer=blank_first,
            name="dense",
            dtype=self.dtype_policy,
        )
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        self.dense.build((None, None, self.memory_width))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns no mask. Otherwise Keras would multiply the loss by the mask of a recurrent encoder."""

    def call(self, memory: Any, mask: Any, training: bool | None = None) -> Any:
        return blank_past_end(self.dense(self.dropout(memory, training=training)), mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
