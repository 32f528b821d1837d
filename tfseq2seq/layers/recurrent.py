"""Recurrent cells and layers by name, stacks of cells, and the loop over time that decoders need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense

STATES = {"simple": 1, "lstm": 2, "gru": 1}
GATES = {"simple": 1, "lstm": 4, "gru": 3}


def _simple(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    return [ops.tanh(projected + recurrent)]


def _lstm(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. Gates in the order i, f, c, o."""
    input_gate, forget_gate, candidate, output_gate = ops.split(projected + recurrent, 4, axis=-1)
    memory = ops.sigmoid(forget_gate) * states[1] + ops.sigmoid(input_gate) * ops.tanh(candidate)
    return [ops.sigmoid(output_gate) * ops.tanh(memory), memory]


def _gru(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    """Cho et al. 2014, the reset gate after the recurrent product as in cuDNN. Gates in the order z, r, h."""
    update_x, reset_x, candidate_x = ops.split(projected, 3, axis=-1)
    update_h, reset_h, candidate_h = ops.split(recurrent, 3, axis=-1)
    update_gate = ops.sigmoid(update_x + update_h)
    candidate = ops.tanh(candidate_x + ops.sigmoid(reset_x + reset_h) * candidate_h)
    return [update_gate * states[0] + (1.0 - update_gate) * candidate]


CELLS = {"simple": _simple, "lstm": _lstm, "gru": _gru}


class _SimpleCell(keras.layers.SimpleRNNCell):
    """Of Keras's cells whose input is already projected; the same weights under the same names."""

    def call(self, projected: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        new_states = _simple(projected, ops.matmul(states[0], self.recurrent_kernel), states)
        return new_states[0], new_states


class _LSTMCell(keras.layers.LSTMCell):
    def call(self, projected: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        new_states = _lstm(projected, ops.matmul(states[0], self.recurrent_kernel), states)
        return new_states[0], new_states


class _GRUCell(keras.layers.GRUCell):
    def call(self, projected: Any, states: Sequence[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        new_states = _gru(projected, ops.matmul(states[0], self.recurrent_kernel) + self.bias[1], states)
        return new_states[0], new_states


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


class _ProjectsAtOnce(keras.layers.RNN):
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

    def project_input(self, inputs: Any) -> Any:
        """[..., D] to its share of the gates, [..., G], which the cell takes."""
        bias = self.cell.bias
        # Keras's GRU has two rows of biases, the second one behind its recurrent product.
        return ops.matmul(inputs, self.cell.kernel) + (bias[0] if len(bias.shape) == 2 else bias)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        return super().inner_loop(self.project_input(sequences), initial_state, mask, training)


@keras.saving.register_keras_serializable(package="tfseq2seq")
class SimpleRNN(keras.layers.SimpleRNN, _ProjectsAtOnce):
    """`keras.layers.SimpleRNN`, faster."""


@keras.saving.register_keras_serializable(package="tfseq2seq")
class LSTM(keras.layers.LSTM, _ProjectsAtOnce):
    """`keras.layers.LSTM`, faster on CPUs."""


@keras.saving.register_keras_serializable(package="tfseq2seq")
class GRU(keras.layers.GRU, _ProjectsAtOnce):
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

    The first cell takes its input projected to the gates, `project_input(x)`, instead of x: inputs that are known
    beforehand are projected for all steps in one product, an input that never changes only once.

    Args:
        cell: simple, lstm or gru.
        layers: cells in the stack.
        units: U, of every cell.
        input_width: of x.
        initializer: of the input matrices; recurrent ones are orthogonal.
    """

    def __init__(self, cell: str, layers: int, units: int, input_width: int, initializer: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.settings = {
            "cell": cell,
            "layers": layers,
            "units": units,
            "input_width": input_width,
            "initializer": initializer,
        }
        self.units, self.input_width, self.states_each, self.cell = units, input_width, STATES[cell], CELLS[cell]
        self.gates_width = GATES[cell] * units
        bias = _forget_gate_open if cell == "lstm" else "zeros"
        self.input_dense = [
            SequenceDense(
                self.gates_width,
                kernel_initializer=initializer,
                bias_initializer=bias,
                name=f"input_{depth}",
                dtype=self.dtype_policy,
            )
            for depth in range(layers)
        ]
        self.recurrent_dense = [
            # The GRU's candidate has its recurrent bias behind the reset gate; elsewhere one bias is enough.
            SequenceDense(
                self.gates_width,
                use_bias=cell == "gru",
                kernel_initializer="orthogonal",
                name=f"recurrent_{depth}",
                dtype=self.dtype_policy,
            )
            for depth in range(layers)
        ]

    def build(self, input_shape: Any) -> None:
        for depth, (input_dense, recurrent_dense) in enumerate(zip(self.input_dense, self.recurrent_dense)):
            input_dense.build((None, self.units if depth else self.input_width))
            recurrent_dense.build((None, self.units))

    def project_input(self, inputs: Any) -> Any:
        """[..., input_width] to its share of the first cell's gates, [..., G]."""
        return self.input_dense[0](inputs)

    def call(self, gates: Any, states: Sequence[Any], dropout_masks: Any = None) -> tuple[Any, list[Any]]:
        """The first cell's gates [N, G] and states [N, U] each to the top cell's output [N, U] and the next states.

        Args:
            gates: from `project_input`, with whatever else enters the first cell added.
            dropout_masks: [N, (layers - 1) * U], between cells. The caller draws them, because not every backend
                draws random numbers inside a loop.
        """
        new_states: list[Any] = []
        for depth, recurrent in enumerate(self.recurrent_dense):
            if depth:
                below = new_states[-self.states_each]
                if dropout_masks is not None:
                    below = below * dropout_masks[:, (depth - 1) * self.units : depth * self.units]
                gates = self.input_dense[depth](below)
            own = states[depth * self.states_each : (depth + 1) * self.states_each]
            new_states.extend(self.cell(gates, recurrent(own[0]), own))
        return new_states[-self.states_each], new_states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.settings}


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
        new_states = advance(carry, parts)
        return new_states, new_states

    return ops.scan(body, first, joined)


def time_major(inputs: Any) -> Any:
    """[B, T, ...] to [T, B, ...] and back."""
    return ops.swapaxes(inputs, 0, 1)
