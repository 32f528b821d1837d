"""The output layer of connectionist temporal classification (Graves et al. 2006).

The blank has the id of <pad>, which no transcript holds. Positions past the end of an utterance say blank for certain:
they add nothing to any transcript's probability, so losses and searches need no lengths beside the logits.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense
from tfseq2seq.spec import BLANK

_LOWEST = -1e9
# The blank's bias before training: it starts as the likeliest label by far (80 % among six). From an even start
# trainings with a handful of labels can settle in saying one of them everywhere and parting words by blanks, where
# what distinguishes the words is never learned.
_BLANK_BIAS = 3.0


def blank_first(shape: Any, dtype: Any = None) -> Any:
    """The initial bias [V]: 3 for the blank, 0 for all else."""
    return ops.one_hot(BLANK, shape[0], dtype=dtype) * _BLANK_BIAS


def blank_past_end(logits: Any, mask: Any) -> Any:
    """Logits [B, F, ..., V] in float32, with 0 for the blank and -1e9 for all else where the mask [B, F] is False."""
    logits = ops.cast(logits, "float32")
    inner = [1] * (len(logits.shape) - 2)
    certain = ops.where(ops.equal(ops.arange(logits.shape[-1]), BLANK), 0.0, _LOWEST)
    real = ops.reshape(mask, (-1, ops.shape(mask)[1], *inner))
    return ops.where(real, logits, ops.cast(ops.reshape(certain, (1, 1, *inner[1:], -1)), "float32"))


def real_positions(logits: Any) -> Any:
    """[B, F] bool of logits [B, F, V] from `blank_past_end`: the mask that was given."""
    return logits[:, :, BLANK + 1] > _LOWEST / 2


class CTCOutput(keras.layers.Layer):
    """Memory [B, F, M] and mask [B, F] to float32 logits [B, F, V], blank for certain past the end.

    Args:
        size: V, the blank included.
        memory_width: M.
        dropout: on the memory.
        initializer: of the matrix.
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
        """Keras would multiply the loss by a mask that recurrent layers leave on their outputs."""

    def call(self, memory: Any, mask: Any, training: bool | None = None) -> Any:
        return blank_past_end(self.dense(self.dropout(memory, training=training)), mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}
