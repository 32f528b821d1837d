"""Recurrent cells by name, stacks of them, and the loop over time that decoders need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

CELLS = {
    "simple": keras.layers.SimpleRNNCell,
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
}
LAYERS = {"simple": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
STATES = {"simple": 1, "lstm": 2, "gru": 1}


class CellStack(keras.layers.Layer):
    """One time step through a stack of recurrent cells.

    Args:
        cell: simple, lstm or gru.
        layers: cells in the stack.
        units: U, of every cell.
        input_width: of the first cell's input.
        initializer: of the input matrices; recurrent ones are orthogonal.
    """

    def __init__(self, cell: str, layers: int, units: int, input_width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.input_width, self.states_each = units, input_width, STATES[cell]
        self.cells = [CELLS[cell](units, kernel_initializer=initializer, name=f"cell_{i}") for i in range(layers)]

    def build(self, input_shape: Any) -> None:
        for depth, cell in enumerate(self.cells):
            cell.build((None, self.units if depth else self.input_width))

    def call(self, inputs: Any, states: Sequence[Any], noise: Any = None) -> tuple[Any, list[Any]]:
        """[N, input_width] and states [N, U] each to the top cell's output [N, U] and the next states.

        Args:
            noise: dropout masks [N, (layers - 1) * U] between cells. They come from outside because random numbers
                cannot be drawn inside a loop on every backend.
        """
        following: list[Any] = []
        for depth, cell in enumerate(self.cells):
            if depth and noise is not None:
                inputs = inputs * noise[:, (depth - 1) * self.units : depth * self.units]
            own = list(states[depth * self.states_each : (depth + 1) * self.states_each])
            inputs, own = cell(inputs, own)
            following.extend(own)
        return inputs, following


def over_time(advance: Callable[[Any, dict[str, Any]], Any], first: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """Runs `carry = advance(carry, {name: input_t})` over time.

    Two limits of `keras.ops.scan` on TensorFlow are met here: outputs have the carry's own structure, so the carry is
    the output; and of several inputs the length must be known when tracing, so they travel as one.

    Args:
        first: the carry before the first step.
        inputs: [T, B, ...] each, of rank 3 and one dtype.

    Returns:
        The last carry, and all of them stacked along a new leading axis.
    """
    widths = {name: value.shape[-1] for name, value in inputs.items()}
    joined = ops.concatenate(list(inputs.values()), axis=-1) if len(inputs) > 1 else next(iter(inputs.values()))

    def body(carry: Any, now: Any) -> tuple[Any, Any]:
        parts, begin = {}, 0
        for name, width in widths.items():
            parts[name] = now[..., begin : begin + width]
            begin += width
        following = advance(carry, parts)
        return following, following

    return ops.scan(body, first, joined)


def time_major(inputs: Any) -> Any:
    """[B, T, ...] to [T, B, ...] and back."""
    return ops.swapaxes(inputs, 0, 1)
