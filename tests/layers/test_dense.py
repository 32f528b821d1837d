import keras
import numpy as np

from tfseq2seq.layers.dense import SequenceDense, side_by_side


def test_sequences_of_any_rank_have_the_numbers_of_a_plain_dense_layer():
    keras.utils.set_random_seed(1)
    ours = SequenceDense(3, activation="tanh")
    for shape in ((4, 5), (2, 4, 5), (2, 3, 4, 5)):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        found = ours(x)
        plain = keras.layers.Dense(3, activation="tanh")
        plain.build(shape)
        plain.set_weights(ours.get_weights())
        np.testing.assert_allclose(found, plain(x), atol=1e-6)
    assert ours(keras.Input((None, 5))).shape == (None, None, 3)


def test_matrices_side_by_side_begin_as_each_would_alone():
    keras.utils.set_random_seed(1)
    drawn = np.asarray(side_by_side("glorot_uniform", [200, 100, 100])((200, 400)))
    for part in (drawn[:, :200], drawn[:, 200:300], drawn[:, 300:]):
        limit = (6 / (200 + part.shape[1])) ** 0.5
        assert 0.99 * limit < np.abs(part).max() <= limit
    assert not np.allclose(drawn[:, 200:300], drawn[:, 300:])
