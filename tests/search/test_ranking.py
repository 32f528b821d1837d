"""The fast ways through large rows against the plain ones."""

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.search.constraints import FORBIDDEN, constrain, continuations, length_limits
from tfseq2seq.search.ranking import log_normalizer, top_k
from tfseq2seq.spec import EOS, SearchSpec


@pytest.mark.parametrize("size,k", [(5, 5), (7, 2), (64, 1), (1000, 8), (1009, 10), (8000, 8), (8000, 1)])
def test_the_largest_entries_are_found_with_their_places(size, k):
    rows = np.random.default_rng(size + k).normal(size=(3, 4, size)).astype("float32")
    rows[0, 0, size // 2 :] = FORBIDDEN
    values, indices = top_k(tf.constant(rows), k)
    expected = -np.sort(-rows, axis=-1)[..., :k]
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(np.take_along_axis(rows, indices.numpy().astype("int64"), axis=-1), expected)
    assert all(len(set(row)) == k for row in indices.numpy().reshape(-1, k).tolist())


@pytest.mark.parametrize("rest", [2 * FORBIDDEN, -np.inf])
def test_what_fills_up_the_last_group_is_never_found(rest):
    rows = np.full((1, 1, 1009), rest, "float32")
    rows[..., 3] = 0.0
    _, indices = top_k(tf.constant(rows), 4)
    assert indices.numpy().max() < 1009


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e4])
def test_the_normalizer_is_that_of_a_sum_of_exponentials(scale):
    logits = scale * np.random.default_rng(0).normal(size=(2, 3, 500)).astype("float32")
    expected = tf.reduce_logsumexp(tf.constant(logits, tf.float64), axis=-1, keepdims=True)
    largest = logits.argmax(-1)[..., None]
    np.testing.assert_allclose(log_normalizer(tf.constant(logits), largest), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("index", [0, 5, 19])
@pytest.mark.parametrize("size,count", [(6, 2), (50, 2), (50, 8), (1009, 8)])
def test_continuations_are_the_best_of_what_is_allowed(size, count, index):
    """Too early to end, free to end, and only the end left, with all special tokens likelier than any other."""
    spec = SearchSpec(beam=3, min_length=3, max_length=20)
    logits = np.random.default_rng(size).normal(size=(2, 3, size)).astype("float32")
    logits[..., :4] += 10.0
    limits = length_limits(spec, 2)
    ids = tf.zeros([2, 3, 20], tf.int32)
    allowed = constrain(tf.constant(logits), ids, index, limits, spec).numpy()
    expected = tf.nn.log_softmax(logits).numpy()
    expected[allowed < FORBIDDEN / 2] = FORBIDDEN
    values, tokens = (part.numpy() for part in continuations(tf.constant(logits), ids, index, limits, spec, count))
    assert tokens.max() < size
    for row, column in np.ndindex(2, 3):
        found = {
            token: value for token, value in zip(tokens[row, column], values[row, column]) if value > FORBIDDEN / 2
        }
        best = sorted(np.flatnonzero(expected[row, column] > FORBIDDEN / 2), key=lambda t: -expected[row, column, t])
        assert set(best[:count]) <= set(found)
        assert sum(token != EOS for token in found) >= min(count, sum(token != EOS for token in best))
        for token, value in found.items():
            assert value == pytest.approx(expected[row, column, token], abs=1e-5)
