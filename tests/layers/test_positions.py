import keras
import keras_hub
import numpy as np

from tfseq2seq.layers.positions import rotate, sinusoids


def test_sinusoids_are_those_of_keras_hub():
    for width in (16, 7):
        expected = keras_hub.layers.SinePositionEncoding()(keras.ops.zeros((1, 300, width)))[0]
        np.testing.assert_allclose(sinusoids(np.arange(300), width), expected, atol=1e-4)


def test_rotation_is_that_of_keras_hub():
    inputs = np.random.default_rng(0).normal(size=(2, 3, 300, 8)).astype("float32")
    expected = keras_hub.layers.RotaryEmbedding(sequence_axis=-2, feature_axis=-1)(inputs)
    np.testing.assert_allclose(rotate(inputs, np.arange(300)), expected, atol=1e-4)
