"""What TFLite lacks, done without: recurrent layers over time that collect nothing in TensorFlow's lists, which TFLite
has for known batch sizes only, and a spectrum in float32, whose products are not rounded to 8 bits with the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfseq2seq.features.audio import product


@contextlib.contextmanager
def in_tflites_operations(model: Any, rounded: bool = False) -> Iterator[None]:
    """While a function of the model is traced: its encoder's recurrent layers write their outputs into one tensor, and
    its features are computed in float32 throughout.

    Args:
        model: that is traced.
        rounded: the converter rounds products with constant matrices to 8 bits. Those of the features are disguised
            then: the powers of a spectrum span more than 8 bits hold, and quiet bands would be lost beside loud ones.
    """
    changed: list[tuple[Any, str, Any]] = []
    if model.encoder.recurrent:
        changed.append((model.encoder, "run_layer", run_layer))
    for features in model.frontend.spectra:
        changed.append((features, "double", False))
        if rounded:
            changed.append((features, "multiply", _multiply_unrounded))
    originals = [(holder, name, getattr(holder, name)) for holder, name, _ in changed]
    for holder, name, value in changed:
        setattr(holder, name, value)
    try:
        yield
    finally:
        for holder, name, value in originals:
            setattr(holder, name, value)


def _multiply_unrounded(inputs: Any, matrix: Any) -> Any:
    # Plus 0, which only who runs it can know: no shape is below 0.
    return product(inputs, matrix + tf.cast(tf.shape(inputs)[0] < 0, tf.float32))


def run_layer(layer: Any, inputs: Any, mask: Any, training: bool | None = None) -> list[Any]:
    """What `layer(inputs, mask=mask)` gives: outputs [B, T, U] and last states, of both directions where there are two.

    For inference: nothing is dropped.
    """
    if not isinstance(layer, keras.layers.Bidirectional):
        return list(_one_way(layer, inputs, mask))
    forward, *forward_states = _one_way(layer.forward_layer, inputs, mask)
    backward, *backward_states = _one_way(layer.backward_layer, tf.reverse(inputs, [1]), tf.reverse(mask, [1]))
    return [tf.concat([forward, tf.reverse(backward, [1])], axis=2), *forward_states, *backward_states]


def _one_way(layer: Any, inputs: Any, mask: Any) -> tuple[Any, ...]:
    cell, width = layer.cell, layer.cell.kernel.shape[1]
    batch, length = tf.shape(inputs)[0], tf.shape(inputs)[1]
    # In one product for all steps; time comes first, so that a step is a row.
    flat = tf.reshape(tf.transpose(inputs, [1, 0, 2]), [-1, inputs.shape[2]])
    projected = tf.reshape(layer.project_input(flat), tf.stack([-1, batch, width]))
    real = tf.transpose(mask, [1, 0])
    zeros = tf.zeros(tf.stack([batch, layer.units]))
    silent = getattr(layer, "zero_output_for_mask", False)

    def body(step: Any, output: Any, states: list[Any], outputs: Any) -> Any:
        _, new_states = cell(tf.gather(projected, step), states)
        here = tf.expand_dims(tf.gather(real, step), 1)
        # A position that is not real keeps the state, and repeats the output or has none.
        states = [tf.where(here, new, old) for new, old in zip(new_states, states)]
        output = tf.where(here, new_states[0], 0.0 if silent else output)
        index = tf.reshape(step, [1, 1])
        return step + 1, output, states, tf.tensor_scatter_nd_update(outputs, index, tf.expand_dims(output, 0))

    states = [zeros] * len(layer.state_size)
    first = (tf.constant(0), zeros, states, tf.zeros(tf.stack([length, batch, layer.units])))
    _, _, states, outputs = tf.while_loop(lambda step, *_: step < length, body, first)
    return tf.transpose(outputs, [1, 0, 2]), *states
