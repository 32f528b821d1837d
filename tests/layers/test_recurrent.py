"""The package's recurrent cells against those of Keras."""

import keras
import numpy as np
import pytest

from tfseq2seq.layers.recurrent import CellStack

CELLS = {
    "simple": keras.layers.SimpleRNNCell,
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
}
WIDTH, UNITS, ROWS = 5, 4, 3


@pytest.mark.parametrize("kind", CELLS)
def test_a_stack_moves_as_keras_cells_do(kind):
    keras.utils.set_random_seed(1)
    stack = CellStack(kind, 2, UNITS, WIDTH, "glorot_uniform")
    stack.build(None)
    cells = [CELLS[kind](UNITS) for _ in range(2)]
    random = np.random.default_rng(0)
    for depth, cell in enumerate(cells):
        cell.build((None, UNITS if depth else WIDTH))
        for weight in cell.weights:
            weight.assign(random.normal(size=weight.shape))
        kernel, recurrent, bias = cell.get_weights()
        biases = list(bias) if kind == "gru" else [bias]
        stack.read_dense[depth].set_weights([kernel, biases[0]])
        stack.recall_dense[depth].set_weights([recurrent, *biases[1:]])

    x = random.normal(size=(ROWS, WIDTH)).astype("float32")
    states = [random.normal(size=(ROWS, UNITS)).astype("float32") for _ in range(2 * stack.states_each)]
    top, following = stack(stack.read(x), states)

    expected, output = [], x
    for depth, cell in enumerate(cells):
        output, own = cell(output, states[depth * stack.states_each : (depth + 1) * stack.states_each])
        expected += own if isinstance(own, list | tuple) else [own]
    np.testing.assert_allclose(top, output, atol=1e-6)
    for found, right in zip(following, expected, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_an_lstm_begins_with_its_forget_gate_open():
    stack = CellStack("lstm", 1, UNITS, WIDTH, "glorot_uniform")
    stack.build(None)
    bias = np.asarray(stack.read_dense[0].bias)
    assert bias.tolist() == [0.0] * UNITS + [1.0] * UNITS + [0.0] * 2 * UNITS
