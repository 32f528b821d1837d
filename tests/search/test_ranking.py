"""The fast ways through large rows against the plain ones."""

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN
from tfseq2seq.search.ranking import log_normalizer, top_k


@pytest.mark.parametrize("size,k", [(5, 5), (7, 2), (64, 1), (1000, 8), (1009, 10), (8000, 8), (8000, 1)])
def test_the_largest_entries_are_found_with_their_places(size, k):
    rows = np.random.default_rng(size + k).normal(size=(3, 4, size)).astype("float32")
    rows[0, 0, size // 2 :] = FORBIDDEN
    values, places = top_k(tf.constant(rows), k)
    expected = -np.sort(-rows, axis=-1)[..., :k]
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(np.take_along_axis(rows, places.numpy().astype("int64"), axis=-1), expected)
    assert all(len(set(row)) == k for row in places.numpy().reshape(-1, k).tolist())


@pytest.mark.parametrize("rest", [2 * FORBIDDEN, -np.inf])
def test_what_fills_up_the_last_group_is_never_found(rest):
    rows = np.full((1, 1, 1009), rest, "float32")
    rows[..., 3] = 0.0
    _, places = top_k(tf.constant(rows), 4)
    assert places.numpy().max() < 1009


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_the_normalizer_is_that_of_a_sum_of_exponentials(scale):
    logits = scale * np.random.default_rng(0).normal(size=(2, 3, 500)).astype("float32")
    expected = tf.reduce_logsumexp(tf.constant(logits, tf.float64), axis=-1, keepdims=True)
    largest = logits.argmax(-1)[..., None]
    np.testing.assert_allclose(log_normalizer(tf.constant(logits), largest), expected, rtol=1e-6, atol=1e-5)
