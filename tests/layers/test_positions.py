import keras
import keras_hub
import numpy as np

from tfseq2seq.layers.positions import sinusoids


def test_sinusoids_are_those_of_keras_hub():
    for width in (16, 7):
        expected = keras_hub.layers.SinePositionEncoding()(keras.ops.zeros((1, 300, width)))[0]
        np.testing.assert_allclose(sinusoids(np.arange(300), width), expected, atol=1e-4)
