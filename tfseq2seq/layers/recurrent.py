"""Recurrent cells and layers, a stack of cells, and the loop over time of decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfseq2seq.layers.dense import SequenceDense

# The number of states, and of gates with the candidate, of each kind of cell.
STATES = {"simple": 1, "lstm": 2, "gru": 1}
GATES = {"simple": 1, "lstm": 4, "gru": 3}


def _simple(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    return [ops.tanh(projected + recurrent)]


def _lstm(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    """LSTM (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000). The order is i, f, c, o."""
    input_gate, forget_gate, candidate, output_gate = ops.split(projected + recurrent, 4, axis=-1)
    cell_state = ops.sigmoid(forget_gate) * states[1] + ops.sigmoid(input_gate) * ops.tanh(candidate)
    return [ops.sigmoid(output_gate) * ops.tanh(cell_state), cell_state]


def _gru(projected: Any, recurrent: Any, states: Sequence[Any]) -> list[Any]:
    """GRU (Cho et al. 2014) with the reset gate after the recurrent product, as in cuDNN. The order is z, r, h."""
    update_x, reset_x, candidate_x = ops.split(projected, 3, axis=-1)
    update_h, reset_h, candidate_h = ops.split(recurrent, 3, axis=-1)
    update_gate = ops.sigmoid(update_x + update_h)
    candidate = ops.tanh(candidate_x + ops.sigmoid(reset_x + reset_h) * candidate_h)
    return [update_gate * states[0] + (1.0 - update_gate) * candidate]


CELLS = {"simple": _simple, "lstm": _lstm, "gru": _gru}


class _SimpleCell(keras.layers.SimpleRNNCell):
    """A Keras cell whose input is already projected. Its weights have the same names as in Keras."""

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


# The only supported values of these options.
_SUPPORTED = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "reset_after": True,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}


class _ProjectsAtOnce(keras.layers.RNN):
    """A faster loop for a recurrent layer of Keras, used if the backend has no kernel for it such as cuDNN's.

    One product projects the inputs of all positions, and the loop has only the recurrent product. In Keras the loop has
    both products, and therefore also sums the gradient of the input matrix position by position.

    The class is between a Keras layer and its base class. The layer calls it after it has found no kernel.
    """

    def __init__(self, cell: Any, **kwargs: Any):
        config = cell.get_config()
        for name, supported in _SUPPORTED.items():
            if config.get(name, supported) != supported:
                raise ValueError(f"{name}: must be {supported!r}, got {config[name]!r}; use the layer of Keras")
        # A new cell would draw other seeds, and its initial weights would differ from those of the Keras layer.
        cell.__class__ = _CELLS[type(cell)]
        super().__init__(cell, **kwargs)

    def project_input(self, inputs: Any) -> Any:
        """Projects inputs [..., D] to the gates [..., G], which are the inputs of the cell."""
        bias = self.cell.bias
        # The GRU of Keras has two biases. The second one belongs to the recurrent product.
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
    """Returns the initial bias of an LSTM: 1 for the forget gate (Jozefowicz et al. 2015), 0 for the others."""
    units = shape[0] // 4
    return ops.concatenate(
        [ops.zeros((units,), dtype), ops.ones((units,), dtype), ops.zeros((2 * units,), dtype)], axis=0
    )


class CellStack(keras.layers.Layer):
    """A stack of recurrent cells, for one time step per call.

    The input of the first cell is `project_input(x)` instead of x. If the inputs are known in advance, one product can
    project those of all steps. A constant input is projected only once.

    Args:
        cell: "simple", "lstm" or "gru".
        layers: the number of cells.
        units: U, the number of units in each cell.
        input_width: the width of x.
        initializer: the initializer of the input matrices. Recurrent matrices are initially orthogonal.
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
            # Only the GRU needs a recurrent bias, because its reset gate multiplies the biased recurrent product.
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
        """Projects inputs [..., input_width] to the gates of the first cell, [..., G]."""
        return self.input_dense[0](inputs)

    def call(self, gates: Any, states: Sequence[Any], dropout_masks: Any = None) -> tuple[Any, list[Any]]:
        """Computes one time step.

        Args:
            gates: [N, G], the result of `project_input`. Other inputs of the first cell can be added to it.
            states: [N, U] each, the states of all cells.
            dropout_masks: [N, (layers - 1) * U], the dropout masks between cells. The caller draws them, because some
                backends cannot draw random numbers inside a loop.

        Returns:
            The output [N, U] of the top cell, and the next states.
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
    """Runs `carry = advance(carry, {name: input_t})` for all time steps.

    `keras.ops.scan` has two limits on TensorFlow. The outputs must have the structure of the carry, so the carry is the
    output. With several inputs, their length must be known when the graph is traced, so the inputs are concatenated.

    Args:
        advance: the function of a step.
        first: the carry before the first step.
        inputs: [T, B, ...] each, with rank 3 and the same dtype.

    Returns:
        The last carry, and the carries of all steps stacked along a new first axis.
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
    """Swaps the first two axes: [B, T, ...] to [T, B, ...], or back."""
    return ops.swapaxes(inputs, 0, 1)
