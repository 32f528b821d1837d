"""Recurrent layers without lists give what Keras gives."""

import keras
import numpy as np
import pytest

from tfseq2seq.export.tflite_operations import run_layer
from tfseq2seq.layers.recurrent import LAYERS


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", LAYERS)
def test_it_equals_the_layer_with_and_without_padding(cell, both):
    keras.utils.set_random_seed(1)
    layer = LAYERS[cell](5, bias_initializer="normal", return_sequences=True, return_state=True)
    layer = keras.layers.Bidirectional(layer) if both else layer
    inputs = np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")
    mask = np.arange(7)[np.newaxis] < np.array([[7], [4], [1]])
    expected = layer(inputs, mask=mask)
    for found, wanted in zip(run_layer(layer, inputs, mask), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
