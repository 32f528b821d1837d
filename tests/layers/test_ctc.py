"""The output layer of CTC."""

import keras
import numpy as np

from tfseq2seq.layers.ctc import CTCOutput
from tfseq2seq.spec import BLANK


def test_before_training_the_blank_is_likeliest_at_every_position():
    keras.utils.set_random_seed(1)
    output = CTCOutput(6, 16, 0.0, "glorot_uniform")
    memory = np.random.default_rng(1).normal(0, 0.3, (4, 50, 16)).astype("float32")
    logits = np.asarray(output(memory, np.ones((4, 50), bool)))
    assert (logits.argmax(-1) == BLANK).mean() > 0.99
    shares = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(shares.mean((0, 1))[BLANK], 0.8, atol=0.05)


def test_positions_past_the_end_say_blank_for_certain():
    keras.utils.set_random_seed(1)
    output = CTCOutput(6, 16, 0.0, "glorot_uniform")
    mask = np.arange(5) < np.asarray([[5], [2]])
    shares = np.asarray(keras.ops.softmax(output(np.ones((2, 5, 16), "float32"), mask)))
    np.testing.assert_array_equal(shares[..., BLANK] == 1.0, ~mask)
