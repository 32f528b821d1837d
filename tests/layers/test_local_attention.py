"""Attention in windows against full attention with a mask, which computes the same in more memory."""

import keras
import numpy as np
import pytest
from keras import ops

from tfseq2seq.layers.attention import MultiHeadAttention
from tfseq2seq.layers.local_attention import LocalAttention
from tfseq2seq.layers.masks import attention_bias

WIDTH, LENGTHS = 8, (11, 7, 3)


def outputs(window, global_positions):
    """Of attention in windows, and of full attention with the same weights and a mask [B, S, S]."""
    keras.utils.set_random_seed(1)
    options = {"kv_heads": 2, "positions": "rotary"}
    local, full = LocalAttention(WIDTH, 4, window, global_positions, **options), MultiHeadAttention(WIDTH, 4, **options)
    for layer in (local, full):
        layer.build(None)
    full.set_weights(local.get_weights())
    size = max(LENGTHS)
    inputs, positions = keras.random.normal((len(LENGTHS), size, WIDTH)), ops.arange(size)
    real = np.arange(size) < np.array(LENGTHS)[:, None]
    index = np.arange(size)
    first = index < global_positions
    seen = (np.abs(index[:, None] - index) <= window) | first | first[:, None]
    projected = local.queries_keys_values(inputs, positions)
    one, weights = local(*projected, attention_bias(real[:, None]))
    other, _ = full(*projected, attention_bias(seen & real[:, None]))
    assert weights is None
    return np.asarray(one)[real], np.asarray(other)[real]


@pytest.mark.parametrize("global_positions", [0, 1, 3, 20])
@pytest.mark.parametrize("window", [1, 2, 4, 11, 30])
def test_windows_see_what_a_mask_lets_see(window, global_positions):
    one, other = outputs(window, global_positions)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_window_that_covers_the_input_is_full_attention():
    keras.utils.set_random_seed(1)
    local, full = LocalAttention(WIDTH, 2, 11), MultiHeadAttention(WIDTH, 2)
    for layer in (local, full):
        layer.build(None)
    full.set_weights(local.get_weights())
    inputs, bias = keras.random.normal((2, 11, WIDTH)), ops.zeros((2, 1, 11))
    projected = full.queries_keys_values(inputs, ops.arange(11))
    np.testing.assert_allclose(local(*projected, bias)[0], full(*projected, bias)[0], atol=1e-5)
