"""Token embeddings and the positions added to them."""

from __future__ import annotations

from typing import Any

import keras
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
        self.dropout = keras.layers.Dropout(dropout)
        self.sine = _sine() if positions == "sinusoidal" else None

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
        if self.sine is not None:
            # One row of zeros per position: the same for every example.
            places = self._places(inputs, start)
            template = ops.zeros((1, ops.shape(places)[0], self.width), dtype="float32")
            outputs = outputs + ops.cast(self.sine(template, positions=ops.cast(places, "float32")), inputs.dtype)
        elif self.positions == "learned":
            # Past the end of the table the last row is repeated rather than read out of bounds.
            places = ops.minimum(self._places(inputs, start), self.max_positions - 1)
            outputs = outputs + ops.expand_dims(ops.take(ops.cast(self.table, inputs.dtype), places, axis=0), 0)
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


def _sine() -> keras.layers.Layer:
    import keras_hub  # seconds to import, and only rotary and sinusoidal models need it

    return keras_hub.layers.SinePositionEncoding(dtype="float32", name="sine")
