"""Recurrent cells and layers by name, stacks of cells, and the loop over time that decoders need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense

STATES = {"simple": 1, "lstm": 2, "gru": 1}
GATES = {"simple": 1, "lstm": 4, "gru": 3}


def _simple(read: Any, recalled: Any, states: Sequence[Any]) -> list[Any]:
    return [ops.tanh(read + recalled)]


def _lstm(read: Any, recalled: Any, states: Sequence[Any]) -> list[Any]:
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. Gates in the order i, f, c, o."""
    entered, kept, candidate, shown = ops.split(read + recalled, 4, axis=-1)
    memory = ops.sigmoid(kept) * states[1] + ops.sigmoid(entered) * ops.tanh(candidate)
    return [ops.sigmoid(shown) * ops.tanh(memory), memory]


def _gru(read: Any, recalled: Any, states: Sequence[Any]) -> list[Any]:
    """Cho et al. 2014, the reset gate after the recurrent product as in cuDNN. Gates in the order z, r, h."""
    kept_x, reset_x, candidate_x = ops.split(read, 3, axis=-1)
    kept_h, reset_h, candidate_h = ops.split(recalled, 3, axis=-1)
    kept = ops.sigmoid(kept_x + kept_h)
    candidate = ops.tanh(candidate_x + ops.sigmoid(reset_x + reset_h) * candidate_h)
    return [kept * states[0] + (1.0 - kept) * candidate]


MOVES = {"simple": _simple, "lstm": _lstm, "gru": _gru}


class _SimpleCell(keras.layers.SimpleRNNCell):
    """Of Keras's cells with the input already read; the same weights under the same names."""

    def call(self, read: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        following = _simple(read, ops.matmul(states[0], self.recurrent_kernel), states)
        return following[0], following


class _LSTMCell(keras.layers.LSTMCell):
    def call(self, read: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        following = _lstm(read, ops.matmul(states[0], self.recurrent_kernel), states)
        return following[0], following


class _GRUCell(keras.layers.GRUCell):
    def call(self, read: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        following = _gru(read, ops.matmul(states[0], self.recurrent_kernel) + self.bias[1], states)
        return following[0], following


_CELLS: dict[Any, Any] = {
    keras.layers.SimpleRNNCell: _SimpleCell,
    keras.layers.LSTMCell: _LSTMCell,
    keras.layers.GRUCell: _GRUCell,
}


_USUAL = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "reset_after": True,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}


class _ReadsAtOnce(keras.layers.RNN):
    """How a recurrent layer of Keras runs where the backend has no kernel for its whole loop, as cuDNN has.

    The product with the input matrix is one for all positions, and only the recurrent one is in the loop. Keras has
    both in the loop, where the gradient of the input matrix is summed up position by position.

    It stands between a layer of Keras and its base class, for the layer to reach it when it has found no kernel.
    """

    def __init__(self, cell: Any, **kwargs: Any):
        config = cell.get_config()
        for name, usual in _USUAL.items():
            if config.get(name, usual) != usual:
                raise ValueError(f"{name}={config[name]!r} is not for this layer; take that of Keras")
        # A cell made anew would draw other seeds: weights would begin otherwise than those of Keras's layer.
        cell.__class__ = _CELLS[type(cell)]
        super().__init__(cell, **kwargs)

    def read(self, inputs: Any) -> Any:
        """[..., D] to its share of the gates, [..., G], which the cell takes."""
        bias = self.cell.bias
        # Keras's GRU has two rows of biases, the second one behind its recurrent product.
        return ops.matmul(inputs, self.cell.kernel) + (bias[0] if len(bias.shape) == 2 else bias)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        return super().inner_loop(self.read(sequences), initial_state, mask, training)


@keras.saving.register_keras_serializable(package="tfseq2seq")
class SimpleRNN(keras.layers.SimpleRNN, _ReadsAtOnce):
    """`keras.layers.SimpleRNN`, faster."""


@keras.saving.register_keras_serializable(package="tfseq2seq")
class LSTM(keras.layers.LSTM, _ReadsAtOnce):
    """`keras.layers.LSTM`, faster on CPUs."""


@keras.saving.register_keras_serializable(package="tfseq2seq")
class GRU(keras.layers.GRU, _ReadsAtOnce):
    """`keras.layers.GRU`, faster on CPUs."""


LAYERS: dict[str, Any] = {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU}


def _forget_gate_open(shape: Any, dtype: Any = None) -> Any:
    """Biases of an LSTM, 1 for the forget gate (Jozefowicz et al. 2015)."""
    units = shape[0] // 4
    return ops.concatenate(
        [ops.zeros((units,), dtype), ops.ones((units,), dtype), ops.zeros((2 * units,), dtype)], axis=0
    )


class CellStack(keras.layers.Layer):
    """One time step through a stack of recurrent cells.

    What the first cell reads is given as its share of the gates, `read(x)`, not as x: of inputs known beforehand the
    product with the input matrix is computed for all steps at once, of an input that never changes, only once.

    Args:
        cell: simple, lstm or gru.
        layers: cells in the stack.
        units: U, of every cell.
        input_width: of x.
        initializer: of the input matrices; recurrent ones are orthogonal.
    """

    def __init__(self, cell: str, layers: int, units: int, input_width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.input_width, self.states_each, self.move = units, input_width, STATES[cell], MOVES[cell]
        self.gates_width = GATES[cell] * units
        bias = _forget_gate_open if cell == "lstm" else "zeros"
        self.read_dense = [
            SequenceDense(
                self.gates_width, kernel_initializer=initializer, bias_initializer=bias, name=f"input_{depth}"
            )
            for depth in range(layers)
        ]
        self.recall_dense = [
            # The GRU's candidate has its recurrent bias behind the reset gate; elsewhere one bias is enough.
            SequenceDense(
                self.gates_width, use_bias=cell == "gru", kernel_initializer="orthogonal", name=f"recurrent_{depth}"
            )
            for depth in range(layers)
        ]

    def build(self, input_shape: Any) -> None:
        for depth, (read, recall) in enumerate(zip(self.read_dense, self.recall_dense)):
            read.build((None, self.units if depth else self.input_width))
            recall.build((None, self.units))

    def read(self, inputs: Any) -> Any:
        """[..., input_width] to its share of the first cell's gates, [..., G]."""
        return self.read_dense[0](inputs)

    def call(self, gates: Any, states: Sequence[Any], noise: Any = None) -> tuple[Any, list[Any]]:
        """The first cell's gates [N, G] and states [N, U] each to the top cell's output [N, U] and the next states.

        Args:
            gates: what `read` gave, and whatever else the first cell reads added to it.
            noise: dropout masks [N, (layers - 1) * U] between cells. They come from outside because random numbers
                cannot be drawn inside a loop on every backend.
        """
        following: list[Any] = []
        for depth, recall in enumerate(self.recall_dense):
            if depth:
                below = following[-self.states_each]
                if noise is not None:
                    below = below * noise[:, (depth - 1) * self.units : depth * self.units]
                gates = self.read_dense[depth](below)
            own = states[depth * self.states_each : (depth + 1) * self.states_each]
            following.extend(self.move(gates, recall(own[0]), own))
        return following[-self.states_each], following


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
