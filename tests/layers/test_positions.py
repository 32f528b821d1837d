import keras
import keras_hub
import numpy as np

from tfseq2seq.layers.positions import BucketedPositions, rotate, sinusoids


def test_sinusoids_are_those_of_keras_hub():
    for width in (16, 7):
        expected = keras_hub.layers.SinePositionEncoding()(keras.ops.zeros((1, 300, width)))[0]
        np.testing.assert_allclose(sinusoids(np.arange(300), width), expected, atol=1e-4)


def test_rotation_is_that_of_keras_hub():
    inputs = np.random.default_rng(0).normal(size=(2, 3, 300, 8)).astype("float32")
    expected = keras_hub.layers.RotaryEmbedding(sequence_axis=-2, feature_axis=-1)(inputs)
    np.testing.assert_allclose(rotate(inputs, np.arange(300)), expected, atol=1e-4)


def buckets(causal, distances):
    """The bucket of each distance, with the settings of T5."""
    layer = BucketedPositions(1, 32, 128, causal)
    layer.build()
    layer.table.assign(np.arange(32)[:, np.newaxis])
    first = max(0, -min(distances))
    found = layer(np.array([first]), first + np.array(distances))
    return keras.ops.convert_to_numpy(found)[0, 0, 0].tolist()


def test_distances_have_the_buckets_of_t5():
    # Up to 8 one distance a bucket, and then as many as 8 * 16 ** (n / 8) grows.
    backward = [0, -1, -7, -8, -11, -12, -15, -16, -22, -23, -31, -32, -45, -46, -63, -64, -90, -91, -127, -128, -500]
    expected = [0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15]
    assert buckets(False, backward) == expected
    assert buckets(False, [-distance for distance in backward[1:]]) == [16 + bucket for bucket in expected[1:]]
    # Of a decoder all buckets are backward, the first 16 of one distance each.
    assert buckets(True, [0, -15, -16, -18, -19, -112, -113, -128, -900]) == [0, 15, 16, 16, 17, 30, 31, 31, 31]
