"""Losses over alignments against sums that name every alignment one by one."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.layers.alignment_losses import CTCLoss, TransducerLoss, positions_needed
from tfseq2seq.layers.ctc import blank_past_end, real_positions

SIZE, EOS = 6, 3
# Tokens, <eos>, padding; the second example repeats a token, the third says nothing.
LABELS = np.array([[4, 5, 4, EOS], [5, 5, EOS, 0], [EOS, 0, 0, 0]], "int32")
COUNTS = [3, 2, 0]
POSITIONS = [5, 3, 2]


def log_softmax(logits):
    logits = logits.astype("float64")
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def masked(logits):
    mask = np.arange(logits.shape[1]) < np.array(POSITIONS)[:, None]
    return np.asarray(blank_past_end(logits, mask))


def ctc_by_hand(logits, tokens):
    """Log-probability of the tokens, over every string of labels as long as the logits."""
    logs, total = log_softmax(logits), -np.inf
    for path in itertools.product(range(SIZE), repeat=len(logits)):
        said = [token for token, _ in itertools.groupby(path) if token]
        if said == list(tokens):
            total = np.logaddexp(total, sum(logs[index, token] for index, token in enumerate(path)))
    return total


def transducer_by_hand(logits, tokens):
    """Log-probability of the tokens, over every choice of the positions at which they are said."""
    logs, total = log_softmax(logits), -np.inf
    for indices in itertools.combinations_with_replacement(range(len(logits)), len(tokens)):
        said, path = 0, 0.0
        for index in range(len(logits)):
            while said < len(tokens) and indices[said] == index:
                path += logs[index, said, tokens[said]]
                said += 1
            path += logs[index, said, 0]
        total = np.logaddexp(total, path)
    return total


def ctc_logits():
    return np.random.default_rng(1).normal(size=(3, 5, SIZE)).astype("float32")


def transducer_logits():
    return np.random.default_rng(2).normal(size=(3, 5, 4, SIZE)).astype("float32")


def test_ctc_loss_equals_the_sum_over_alignments():
    logits = ctc_logits()
    losses = CTCLoss(reduction=None)(LABELS, masked(logits))
    for row in range(3):
        expected = -ctc_by_hand(logits[row, : POSITIONS[row]], LABELS[row, : COUNTS[row]])
        assert float(losses[row]) == pytest.approx(expected / max(COUNTS[row], 1), abs=1e-4)


def test_transducer_loss_equals_the_sum_over_alignments():
    logits = transducer_logits()
    losses = TransducerLoss(reduction=None)(LABELS, masked(logits))
    for row in range(3):
        expected = -transducer_by_hand(logits[row, : POSITIONS[row]], LABELS[row, : COUNTS[row]])
        assert float(losses[row]) == pytest.approx(expected / max(COUNTS[row], 1), abs=1e-4)


@pytest.mark.parametrize(
    "loss, logits, by_hand",
    [(CTCLoss, ctc_logits, ctc_by_hand), (TransducerLoss, transducer_logits, transducer_by_hand)],
)
def test_gradients_equal_finite_differences(loss, logits, by_hand):
    values = masked(logits())
    variable = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        losses = loss(reduction=None)(LABELS, variable)
    gradient = tape.gradient(losses, variable).numpy()
    assert np.abs(gradient[1, POSITIONS[1] :]).max() < 1e-6
    random, step = np.random.default_rng(0), 1e-4
    for row in range(3):
        for _ in range(6):
            index = tuple(random.integers(size) for size in (POSITIONS[row], *values.shape[2:]))
            moved = []
            for sign in (1, -1):
                changed = values[row, : POSITIONS[row]].astype("float64")
                changed[index] += sign * step
                moved.append(by_hand(changed, LABELS[row, : COUNTS[row]]))
            slope = -(moved[0] - moved[1]) / (2 * step) / max(COUNTS[row], 1)
            assert gradient[row][index] == pytest.approx(slope, abs=1e-3)


def test_more_padding_changes_nothing():
    logits, labels = masked(ctc_logits()), np.pad(LABELS, ((0, 0), (0, 2)))
    more = np.pad(np.arange(7) < np.array(POSITIONS)[:, None], ((0, 0), (0, 0)))
    longer = np.asarray(blank_past_end(np.pad(logits, ((0, 0), (0, 2), (0, 0))), more))
    loss = CTCLoss(reduction=None)
    np.testing.assert_allclose(loss(labels, longer), loss(LABELS, logits), atol=1e-5)

    lattice = masked(transducer_logits())
    longer = np.asarray(blank_past_end(np.pad(lattice, ((0, 0), (0, 2), (0, 2), (0, 0))), more))
    loss = TransducerLoss(reduction=None)
    np.testing.assert_allclose(loss(labels, longer), loss(LABELS, lattice), atol=1e-4)


def test_an_utterance_too_short_for_its_text_counts_as_zero_and_leaves_gradients_finite():
    labels = np.array([[4, 4, EOS], [4, 5, EOS]], "int32")
    logits = np.asarray(blank_past_end(ctc_logits()[:2, :2], np.ones((2, 2), bool)))
    variable = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        losses = CTCLoss(reduction=None)(labels, variable)
    assert float(losses[0]) == 0.0 and float(losses[1]) > 0.0
    gradient = tape.gradient(losses, variable).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[0].any() and gradient[1].any()


def test_positions_needed_count_a_blank_between_equal_tokens():
    tokens = np.array([[4, 4, 4, 0], [4, 5, 4, 0], [0, 0, 0, 0]], "int32")
    assert np.asarray(positions_needed(tokens)).tolist() == [5, 3, 0]


def test_the_mean_is_over_tokens():
    logits = masked(ctc_logits())
    each = np.asarray(CTCLoss(reduction=None)(LABELS, logits))
    weights = np.array(COUNTS, "float32")
    mean = float(CTCLoss()(LABELS, logits, sample_weight=weights / weights.sum()))
    assert mean == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-5)


def test_padding_says_blank_for_certain_also_from_16_bits():
    mask = np.array([[True, False]])
    logits = keras.ops.cast(np.ones((1, 2, SIZE)), "float16")
    found = blank_past_end(logits, mask)
    assert found.dtype == "float32"
    probabilities = np.exp(log_softmax(np.asarray(found)))
    np.testing.assert_allclose(probabilities[0, 1], np.eye(SIZE)[0], atol=1e-9)
    assert np.asarray(real_positions(found)).tolist() == mask.tolist()
