import keras
import numpy as np
import pytest

from tfseq2seq.layers.guided_attention import GuidedAttention

# Two examples: 2 target by 4 source positions, and 3 by 2 that are padded.
MEMORY = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
TARGET = np.array([[1, 1, 0], [1, 1, 1]], bool)
HIDDEN = np.zeros((2, 3, 5), "float32")


def loss(attention, training=True, share=1.0):
    layer = GuidedAttention(weight=2.0, width=0.25)
    layer.share.assign(share)
    assert layer(HIDDEN, np.asarray(attention, "float32"), MEMORY, TARGET, training=training) is not None
    return sum(map(float, layer.losses))


def test_cost_is_the_distance_from_the_diagonal():
    random = np.random.default_rng(0)
    attention = random.dirichlet(np.ones(4), (2, 3))
    costs = []
    for example, (targets, sources) in enumerate([(2, 4), (3, 2)]):
        for t in range(targets):
            off = [(t + 1) / targets - (s + 1) / sources for s in range(sources)]
            cost = 1 - np.exp(-np.square(off) / (2 * 0.25**2))
            costs.append(cost @ attention[example, t, :sources])
    # Real models give padding no weight; here it has some, at the distance of the last real position.
    rest = [(1 - np.exp(-np.square((t + 1) / 3 - 1) / 0.125)) * attention[1, t, 2:].sum() for t in range(3)]
    assert loss(attention) == pytest.approx(2.0 * (sum(costs) + sum(rest)), rel=1e-5)
    assert loss(attention, share=0.5) == pytest.approx(0.5 * loss(attention))
    assert loss(attention, training=False) == 0


def test_the_diagonal_costs_nothing():
    attention = np.zeros((2, 3, 4))
    attention[0, 0, 1] = attention[0, 1, 3] = attention[1, 2, 1] = 1
    attention[1, 0, 0] = attention[1, 1, 1] = 1  # one sixth and one third off
    away = 2 - np.exp(-1 / 36 / 0.125) - np.exp(-1 / 9 / 0.125)
    assert loss(attention) == pytest.approx(2.0 * away, rel=1e-5)


def test_hidden_vectors_pass_unchanged():
    hidden = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    layer = GuidedAttention(weight=1.0, width=0.2)
    found = layer(hidden, np.full((2, 3, 4), 0.25, "float32"), MEMORY, TARGET, training=True)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), hidden)
