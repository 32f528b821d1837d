"""Loss and metrics against plain numpy, and their gradient against automatic differentiation."""

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.layers.copying import IMPOSSIBLE
from tfseq2seq.spec import PAD
from tfseq2seq.training.losses import NegativeLogLikelihood, TokenAccuracy, TokenCrossEntropy

VOCABULARY = 7


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    logits = (3 * random.normal(size=(3, 4, VOCABULARY))).astype("float32")
    weights = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], "float32")
    labels = np.where(weights > 0, random.integers(1, VOCABULARY, (3, 4)), PAD)
    return logits, labels, weights


def smoothed(logits, labels, smoothing):
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(VOCABULARY)[labels] + smoothing / VOCABULARY
    return -(wanted * log_probs).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_the_mean_over_real_tokens_if_the_weights_sum_to_one(batch, smoothing):
    logits, labels, weights = batch
    expected = (smoothed(logits, labels, smoothing) * weights).sum() / weights.sum()
    shares = weights / weights.sum()
    assert float(TokenCrossEntropy(smoothing)(labels, logits, shares)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_closed_gradient_is_the_derivative(batch, smoothing):
    logits, labels, weights = batch
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = TokenCrossEntropy(smoothing)(labels, logits, weights)
    found = tape.gradient(loss, logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        wanted = (1 - smoothing) * tf.one_hot(labels, VOCABULARY) + smoothing / VOCABULARY
        plain = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
        loss = tf.reduce_sum(plain * weights)
    np.testing.assert_allclose(found, tape.gradient(loss, logits), atol=1e-6)
    assert not np.any(found.numpy()[weights == 0])


def test_smoothing_leaves_out_words_that_cannot_be_copied(batch):
    logits, labels, weights = batch
    impossible = np.zeros_like(logits)
    impossible[1, :, 5:], impossible[2, :, 6:] = IMPOSSIBLE, IMPOSSIBLE
    labels = np.minimum(labels, 4)
    given = tf.constant(logits + impossible)
    loss = TokenCrossEntropy(0.1, copies=True)(labels, given, weights)
    with tf.GradientTape() as tape:
        tape.watch(given)
        possible = tf.cast(impossible == 0, tf.float32)
        wanted = 0.9 * tf.one_hot(labels, VOCABULARY) + 0.1 * possible / tf.reduce_sum(possible, -1, keepdims=True)
        plain = -tf.reduce_sum(wanted * possible * tf.nn.log_softmax(given), -1)
        expected = tf.reduce_sum(plain * weights)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(expected, given), _gradient(given, labels, weights), atol=1e-6)


def _gradient(logits, labels, weights):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = TokenCrossEntropy(0.1, copies=True)(labels, logits, weights)
    return tape.gradient(loss, logits)


def test_extreme_logits_stay_finite():
    logits = tf.constant([[[1e4, -1e4, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = TokenCrossEntropy(0.0)(np.array([[1]]), logits, np.ones((1, 1), "float32"))
    assert float(loss) == pytest.approx(2e4)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_metrics_weigh_tokens_not_sentences(batch):
    logits, labels, weights = batch
    nll, accuracy = NegativeLogLikelihood(), TokenAccuracy()
    # Two updates of unequal size: the result is that of all tokens together.
    for rows in ([0], [1, 2]):
        for metric in (nll, accuracy):
            metric.update_state(labels[rows], logits[rows], weights[rows])
    assert float(nll.result()) == pytest.approx((smoothed(logits, labels, 0) * weights).sum() / weights.sum(), rel=1e-5)
    right = (logits.argmax(-1) == labels) * weights
    assert float(accuracy.result()) == pytest.approx(right.sum() / weights.sum())
    assert float(nll.count) == weights.sum()


def test_the_loss_survives_its_config():
    loss = TokenCrossEntropy.from_config(TokenCrossEntropy(0.3).get_config())
    assert loss.label_smoothing == 0.3
