"""The package's recurrent cells and layers against those of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.layers.recurrent import LAYERS, CellStack

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
        stack.input_dense[depth].set_weights([kernel, biases[0]])
        stack.recurrent_dense[depth].set_weights([recurrent, *biases[1:]])

    x = random.normal(size=(ROWS, WIDTH)).astype("float32")
    states = [random.normal(size=(ROWS, UNITS)).astype("float32") for _ in range(2 * stack.states_each)]
    top, new_states = stack(stack.project_input(x), states)

    expected, output = [], x
    for depth, cell in enumerate(cells):
        output, own = cell(output, states[depth * stack.states_each : (depth + 1) * stack.states_each])
        expected += own if isinstance(own, list | tuple) else [own]
    np.testing.assert_allclose(top, output, atol=1e-6)
    for found, right in zip(new_states, expected, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_an_lstm_begins_with_its_forget_gate_open():
    stack = CellStack("lstm", 1, UNITS, WIDTH, "glorot_uniform")
    stack.build(None)
    bias = np.asarray(stack.input_dense[0].bias)
    assert bias.tolist() == [0.0] * UNITS + [1.0] * UNITS + [0.0] * 2 * UNITS


LAYERS_OF_KERAS = {"simple": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_outputs_states_and_gradients_as_that_of_keras(kind, both):
    keras.utils.set_random_seed(1)
    inputs = tf.constant(np.random.default_rng(0).normal(size=(3, 7, WIDTH)).astype("float32"))
    mask = tf.sequence_mask([7, 4, 1], 7)
    options = {"return_sequences": True, "return_state": True, "bias_initializer": "normal"}
    layers = [kinds[kind](UNITS, **options) for kinds in (LAYERS_OF_KERAS, LAYERS)]
    layers = [keras.layers.Bidirectional(layer) if both else layer for layer in layers]
    for layer in layers:
        layer.build(inputs.shape)
    layers[1].set_weights(layers[0].get_weights())
    results = []
    for layer in layers:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask)
            loss = sum(tf.reduce_sum(output**2) for output in outputs)
        results.append([*outputs, *tape.gradient(loss, [inputs, *layer.trainable_weights])])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"activation": "relu"}, {"dropout": 0.1}, {"use_bias": False}])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_what_it_would_ignore(kind, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: must be "):
        LAYERS[kind](UNITS, **options)


def test_a_layer_multiplies_by_the_input_matrix_outside_its_loop():
    layer = LAYERS["lstm"](UNITS)
    layer.build((None, None, WIDTH))
    function = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, WIDTH)))
    graph = function.graph.as_graph_def()
    inside = [node.op for part in graph.library.function for node in part.node_def if "MatMul" in node.op]
    assert len(inside) == 1  # the recurrent one
