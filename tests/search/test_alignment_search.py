"""CTC and transducer searches against every transcript there is, and attention with CTC against the formula."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.layers.ctc import blank_past_end
from tfseq2seq.search.beam import beam_search
from tfseq2seq.search.constraints import length_limits
from tfseq2seq.search.ctc import best_path, prefix_beam_search
from tfseq2seq.search.fusion import Fusion, JointScorer, log_recurrence
from tfseq2seq.search.transducer import TransducerSearch, transducer_search
from tfseq2seq.spec import EOS, SearchSpec

SIZE = 6
TOKENS = (1, 4, 5)
POSITIONS = np.array([4, 2, 3], "int32")


class Favorite:
    """Scorer that likes a token for every second place, and a text that ends after an even number of tokens."""

    def __init__(self, token):
        self.token = token

    def start(self, batch, beam):
        return tf.zeros(tf.stack([batch, beam]), tf.int32)

    def scores(self, states):
        odd = tf.cast(states % 2, tf.float32)[..., tf.newaxis]
        return tf.one_hot(self.token, SIZE) * odd + tf.one_hot(EOS, SIZE) * (0.5 - odd)

    def advance(self, states, tokens):
        return states + 1

    def total(self, tokens):
        total = sum(1.0 for position, token in enumerate(tokens) if position % 2 and token == self.token)
        return total + (0.5 if len(tokens) % 2 == 0 else -0.5)


def log_softmax(logits):
    return tf.nn.log_softmax(logits).numpy()


def ctc_logits(seed):
    logits = 2 * np.random.default_rng(seed).normal(size=(3, 4, SIZE)).astype("float32")
    return np.asarray(blank_past_end(logits, np.arange(4) < POSITIONS[:, None]))


def every_transcript(logits):
    """Log-probability of each transcript of logits [F, V], over its alignments."""
    logs, found = log_softmax(logits), {}
    for path in itertools.product((0, *TOKENS), repeat=len(logits)):
        predicted = tuple(token for token, _ in itertools.groupby(path) if token)
        total = sum(logs[position, token] for position, token in enumerate(path))
        found[predicted] = np.logaddexp(found.get(predicted, -np.inf), total)
    return found


def transcripts(found, row):
    return [
        (
            tuple(found.ids[row, position, : int(found.lengths[row, position])].numpy()),
            float(found.scores[row, position]),
        )
        for position in range(found.ids.shape[1])
    ]


@pytest.mark.parametrize("fusion", [None, Fusion([(Favorite(4), 0.7)])], ids=["alone", "fused"])
@pytest.mark.parametrize("seed", range(4))
def test_prefix_beam_search_as_wide_as_the_space_is_exact(seed, fusion):
    logits = ctc_logits(seed)
    for row, length in enumerate(POSITIONS):
        expected = every_transcript(logits[row, :length])
        if fusion:
            expected = {predicted: total + 0.7 * Favorite(4).total(predicted) for predicted, total in expected.items()}
        count = min(len(expected), 12)
        found = transcripts(prefix_beam_search(logits[row : row + 1, :length], 10, 130, count, fusion), 0)
        best = sorted(expected.items(), key=lambda entry: -entry[1])[:count]
        assert [predicted for predicted, _ in found] == [predicted for predicted, _ in best]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in best], atol=1e-4)


def test_scores_of_narrow_beams_never_exceed_the_truth_and_batches_change_nothing():
    logits = ctc_logits(9)
    together = prefix_beam_search(logits, 10, 3, 2)
    for row, length in enumerate(POSITIONS):
        alone = prefix_beam_search(logits[row : row + 1, :length], 10, 3, 2)
        assert transcripts(together, row) == [
            (predicted, pytest.approx(score, abs=1e-4)) for predicted, score in transcripts(alone, 0)
        ]
        truth = every_transcript(logits[row, :length])
        assert all(score <= truth[predicted] + 1e-4 for predicted, score in transcripts(together, row))


def test_the_best_path_keeps_a_token_said_twice_with_a_blank_between():
    path = [4, 4, 0, 4, 5, 5]
    logits = 9.0 * np.eye(SIZE, dtype="float32")[path][np.newaxis]
    for found in (best_path(logits, 10), prefix_beam_search(logits, 10, 4, 1)):
        assert transcripts(found, 0)[0][0] == (4, 4, 5)
    assert transcripts(best_path(logits, 2), 0)[0][0] == (4, 4)
    assert float(best_path(logits, 10).log_probs[0, 0]) == pytest.approx(
        sum(log_softmax(logits)[0, position, token] for position, token in enumerate(path)), abs=1e-4
    )


def transducer(seed):
    """A random transducer: `step`, `join`, encoder projections, and the log-probability of any transcript by hand."""
    random, width = np.random.default_rng(seed), 5
    words, inner, outer = (
        random.normal(size=size).astype("float32") for size in ((SIZE, width), (width, width), (width, SIZE))
    )
    encoded = random.normal(size=(2, 3, width)).astype("float32")

    def step(ids, states):
        predicted = tf.tanh(tf.gather(words, ids) + tf.matmul(states[0], inner))
        return predicted, [predicted]

    def join(encoded, predicted):
        return tf.tanh(encoded + predicted) @ outer

    def by_hand(row, length, tokens):
        states, outputs = [tf.zeros([1, width])], []
        for token in (2, *tokens):
            output, states = step(tf.constant([token]), states)
            outputs.append(output)
        logs = [
            [log_softmax(join(encoded[row, position], output))[0] for output in outputs] for position in range(length)
        ]
        total = -np.inf
        for indices in itertools.combinations_with_replacement(range(length), len(tokens)):
            predicted, path = 0, 0.0
            for position in range(length):
                while predicted < len(tokens) and indices[predicted] == position:
                    path += logs[position][predicted][tokens[predicted]]
                    predicted += 1
                path += logs[position][predicted][0]
            total = np.logaddexp(total, path)
        return total

    return step, join, encoded, by_hand, width


@pytest.mark.parametrize("fusion", [None, Fusion([(Favorite(5), 0.7)])], ids=["alone", "fused"])
@pytest.mark.parametrize("seed", range(2))
def test_transducer_search_as_wide_as_the_space_is_exact(seed, fusion):
    step, join, encoded, by_hand, width = transducer(seed)
    frames, longest, beam, count = np.array([3, 2], "int32"), 3, 130, 8
    start = [tf.zeros([2 * beam, width])]
    search = TransducerSearch(step, join, longest, beam, fusion)
    found = transducer_search(search, tf.constant(encoded), tf.constant(frames), start, count)
    for row, length in enumerate(frames):
        expected = {}
        for size in range(longest + 1):
            for tokens in itertools.product(TOKENS, repeat=size):
                extra = 0.7 * Favorite(5).total(tokens) if fusion else 0.0
                expected[tokens] = by_hand(row, length, tokens) + extra
        best = sorted(expected.items(), key=lambda entry: -entry[1])[:count]
        assert [predicted for predicted, _ in transcripts(found, row)] == [predicted for predicted, _ in best]
        np.testing.assert_allclose(found.scores[row], [score for _, score in best], atol=1e-4)


def test_greedy_transducer_search_takes_the_likeliest_edge():
    step, join, encoded, _, width = transducer(5)
    search = TransducerSearch(step, join, max_length=4, beam=1)
    found = transducer_search(search, tf.constant(encoded), tf.constant([3, 3]), [tf.zeros([2, width])], count=1)
    for row in range(2):
        states, tokens, position = [tf.zeros([1, width])], [], 0
        output, states = step(tf.constant([2]), states)
        while position < 3:
            logs = log_softmax(join(encoded[row, position], output))[0]
            allowed = {token: logs[token] for token in (0, *TOKENS) if token == 0 or len(tokens) < 4}
            best = max(allowed, key=allowed.get)
            if best == 0:
                position += 1
            else:
                tokens.append(best)
                output, states = step(tf.constant([best]), states)
        assert transcripts(found, row)[0][0] == tuple(tokens)


def begins_with(logits, prefix):
    """Log-probability by CTC that a transcript of logits [F, V] begins with a prefix."""
    logs, total = log_softmax(logits), -np.inf
    for path in itertools.product(range(SIZE), repeat=len(logits)):
        predicted = [token for token, _ in itertools.groupby(path) if token]
        if tuple(predicted[: len(prefix)]) == tuple(prefix):
            total = np.logaddexp(total, sum(logs[position, token] for position, token in enumerate(path)))
    return total


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_with_ctc_and_scorers_ranks_by_the_formula(weight, fused):
    """A decoder of random bigrams, a CTC output and a scorer: every score equals the weighted sum computed by hand."""
    random = np.random.default_rng(3)
    bigrams = random.normal(size=(SIZE, SIZE)).astype("float32")
    ctc = random.normal(size=(1, 4, SIZE)).astype("float32")
    scorer = Favorite(4)

    def step(ids, index, visible, fixed, cache):
        attention = tf.zeros(tf.concat([tf.shape(ids), [1]], axis=0))
        return tf.gather(bigrams, ids), cache, attention

    spec = SearchSpec(beam=40, n_best=8, length_penalty="none", max_length=4, stop="exact" if not fused else "full")
    joint_scorer = JointScorer(Fusion([(scorer, 0.3)] if fused else []), ctc, weight, candidates=SIZE)
    cache = {"state": {}, "history": {}}
    limits = length_limits(spec, tf.constant(1))
    found = beam_search(step, {}, cache, tf.constant([2]), limits, spec, joint_scorer=joint_scorer)
    logs = log_softmax(bigrams)
    whole = log_softmax(ctc)[0]
    for position in range(3):
        length = int(found.lengths[0, position])
        tokens = found.ids[0, position, :length].numpy().tolist()
        assert tokens[-1] == EOS
        by_attention = sum(logs[before, token] for before, token in zip([2, *tokens], tokens))
        by_ctc = every_path(whole, tokens[:-1])
        expected = (1 - weight) * by_attention + weight * by_ctc + (0.3 * scorer.total(tokens[:-1]) if fused else 0)
        assert float(found.scores[0, position]) == pytest.approx(expected, abs=1e-3)


def every_path(logs, tokens):
    total = -np.inf
    for path in itertools.product(range(SIZE), repeat=len(logs)):
        if [token for token, _ in itertools.groupby(path) if token] == tokens:
            total = np.logaddexp(total, sum(logs[position, token] for position, token in enumerate(path)))
    return total


def test_ctc_prefix_probabilities_equal_the_sum_over_continuations():
    logits = np.random.default_rng(4).normal(size=(1, 4, SIZE)).astype("float32")
    joint_scorer = JointScorer(Fusion(), logits, 0.5, candidates=SIZE)
    flat = tf.zeros([1, 1, SIZE])
    states = joint_scorer.start(tf.constant(1), 1)
    parent = tf.zeros([1, 1], tf.int32)
    prefix = []
    for token in (4, 4, 5):
        prefix.append(token)
        ranked, pending = joint_scorer.ranked(flat, states)
        states = joint_scorer.moved(states, pending, parent, tf.constant([[token]]))
        before = begins_with(logits[0], prefix[:-1])
        gained = 0.5 * (begins_with(logits[0], prefix) - before)
        assert float(ranked[0, 0, token]) == pytest.approx(gained, abs=1e-4)


def test_log_recurrence():
    random = np.random.default_rng(0)
    factors, terms = random.normal(size=(2, 2, 3, 7)).astype("float32")
    expected, last = [], np.full((2, 3), -1e9)
    for position in range(7):
        last = np.logaddexp(last + factors[..., position], terms[..., position])
        expected.append(last)
    np.testing.assert_allclose(
        log_recurrence(tf.constant(factors), tf.constant(terms)), np.stack(expected, -1), atol=1e-5
    )
