"""CTC and transducer searches against every transcript there is, and attention with CTC against the formula."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.layers.ctc import blank_past_end
from tfseq2seq.search.beam import beam_search
from tfseq2seq.search.constraints import length_limits
from tfseq2seq.search.ctc import best_path, prefix_beam_search
from tfseq2seq.search.fusion import Fusion, Opinion, log_recurrence
from tfseq2seq.search.transducer import TransducerSearch, transducer_search
from tfseq2seq.spec import EOS, SearchSpec

SIZE = 6
TOKENS = (1, 4, 5)
POSITIONS = np.array([4, 2, 3], "int32")


class Favourite:
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
        total = sum(1.0 for place, token in enumerate(tokens) if place % 2 and token == self.token)
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
        said = tuple(token for token, _ in itertools.groupby(path) if token)
        total = sum(logs[place, token] for place, token in enumerate(path))
        found[said] = np.logaddexp(found.get(said, -np.inf), total)
    return found


def transcripts(found, row):
    return [
        (tuple(found.ids[row, place, : int(found.lengths[row, place])].numpy()), float(found.scores[row, place]))
        for place in range(found.ids.shape[1])
    ]


@pytest.mark.parametrize("fusion", [None, Fusion([(Favourite(4), 0.7)])], ids=["alone", "fused"])
@pytest.mark.parametrize("seed", range(4))
def test_prefix_beam_search_as_wide_as_the_space_is_exact(seed, fusion):
    logits = ctc_logits(seed)
    for row, length in enumerate(POSITIONS):
        expected = every_transcript(logits[row, :length])
        if fusion:
            expected = {said: total + 0.7 * Favourite(4).total(said) for said, total in expected.items()}
        count = min(len(expected), 12)
        found = transcripts(prefix_beam_search(logits[row : row + 1, :length], 10, 130, count, fusion), 0)
        best = sorted(expected.items(), key=lambda entry: -entry[1])[:count]
        assert [said for said, _ in found] == [said for said, _ in best]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in best], atol=1e-4)


def test_scores_of_narrow_beams_never_exceed_the_truth_and_batches_change_nothing():
    logits = ctc_logits(9)
    together = prefix_beam_search(logits, 10, 3, 2)
    for row, length in enumerate(POSITIONS):
        alone = prefix_beam_search(logits[row : row + 1, :length], 10, 3, 2)
        assert transcripts(together, row) == [
            (said, pytest.approx(score, abs=1e-4)) for said, score in transcripts(alone, 0)
        ]
        truth = every_transcript(logits[row, :length])
        assert all(score <= truth[said] + 1e-4 for said, score in transcripts(together, row))


def test_the_best_path_keeps_a_token_said_twice_with_a_blank_between():
    path = [4, 4, 0, 4, 5, 5]
    logits = 9.0 * np.eye(SIZE, dtype="float32")[path][np.newaxis]
    for found in (best_path(logits, 10), prefix_beam_search(logits, 10, 4, 1)):
        assert transcripts(found, 0)[0][0] == (4, 4, 5)
    assert transcripts(best_path(logits, 2), 0)[0][0] == (4, 4)
    assert float(best_path(logits, 10).log_probs[0, 0]) == pytest.approx(
        sum(log_softmax(logits)[0, place, token] for place, token in enumerate(path)), abs=1e-4
    )


def transducer(seed):
    """A random transducer: `say`, `join`, heard positions, and the log-probability of any transcript by hand."""
    random, width = np.random.default_rng(seed), 5
    words, inner, outer = (
        random.normal(size=size).astype("float32") for size in ((SIZE, width), (width, width), (width, SIZE))
    )
    heard = random.normal(size=(2, 3, width)).astype("float32")

    def say(ids, states):
        said = tf.tanh(tf.gather(words, ids) + tf.matmul(states[0], inner))
        return said, [said]

    def join(heard, said):
        return tf.tanh(heard + said) @ outer

    def by_hand(row, length, tokens):
        states, outputs = [tf.zeros([1, width])], []
        for token in (2, *tokens):
            output, states = say(tf.constant([token]), states)
            outputs.append(output)
        logs = [[log_softmax(join(heard[row, place], output))[0] for output in outputs] for place in range(length)]
        total = -np.inf
        for places in itertools.combinations_with_replacement(range(length), len(tokens)):
            said, path = 0, 0.0
            for place in range(length):
                while said < len(tokens) and places[said] == place:
                    path += logs[place][said][tokens[said]]
                    said += 1
                path += logs[place][said][0]
            total = np.logaddexp(total, path)
        return total

    return say, join, heard, by_hand, width


@pytest.mark.parametrize("fusion", [None, Fusion([(Favourite(5), 0.7)])], ids=["alone", "fused"])
@pytest.mark.parametrize("seed", range(2))
def test_transducer_search_as_wide_as_the_space_is_exact(seed, fusion):
    say, join, heard, by_hand, width = transducer(seed)
    frames, longest, beam, count = np.array([3, 2], "int32"), 3, 130, 8
    start = [tf.zeros([2 * beam, width])]
    search = TransducerSearch(say, join, longest, beam, fusion)
    found = transducer_search(search, tf.constant(heard), tf.constant(frames), start, count)
    for row, length in enumerate(frames):
        expected = {}
        for size in range(longest + 1):
            for tokens in itertools.product(TOKENS, repeat=size):
                extra = 0.7 * Favourite(5).total(tokens) if fusion else 0.0
                expected[tokens] = by_hand(row, length, tokens) + extra
        best = sorted(expected.items(), key=lambda entry: -entry[1])[:count]
        assert [said for said, _ in transcripts(found, row)] == [said for said, _ in best]
        np.testing.assert_allclose(found.scores[row], [score for _, score in best], atol=1e-4)


def test_greedy_transducer_search_takes_the_likeliest_edge():
    say, join, heard, _, width = transducer(5)
    search = TransducerSearch(say, join, longest=4, beam=1)
    found = transducer_search(search, tf.constant(heard), tf.constant([3, 3]), [tf.zeros([2, width])], count=1)
    for row in range(2):
        states, tokens, place = [tf.zeros([1, width])], [], 0
        output, states = say(tf.constant([2]), states)
        while place < 3:
            logs = log_softmax(join(heard[row, place], output))[0]
            allowed = {token: logs[token] for token in (0, *TOKENS) if token == 0 or len(tokens) < 4}
            best = max(allowed, key=allowed.get)
            if best == 0:
                place += 1
            else:
                tokens.append(best)
                output, states = say(tf.constant([best]), states)
        assert transcripts(found, row)[0][0] == tuple(tokens)


def begins_with(logits, prefix):
    """Log-probability by CTC that a transcript of logits [F, V] begins with a prefix."""
    logs, total = log_softmax(logits), -np.inf
    for path in itertools.product(range(SIZE), repeat=len(logits)):
        said = [token for token, _ in itertools.groupby(path) if token]
        if tuple(said[: len(prefix)]) == tuple(prefix):
            total = np.logaddexp(total, sum(logs[place, token] for place, token in enumerate(path)))
    return total


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_with_ctc_and_scorers_ranks_by_the_formula(weight, fused):
    """A decoder of random bigrams, a CTC output and a scorer: every score equals the weighted sum computed by hand."""
    random = np.random.default_rng(3)
    bigrams = random.normal(size=(SIZE, SIZE)).astype("float32")
    ctc = random.normal(size=(1, 4, SIZE)).astype("float32")
    scorer = Favourite(4)

    def step(ids, index, visible, fixed, cache):
        attention = tf.zeros(tf.concat([tf.shape(ids), [1]], axis=0))
        return tf.gather(bigrams, ids), cache, attention

    spec = SearchSpec(beam=40, n_best=8, length_penalty="none", max_length=4, stop="exact" if not fused else "full")
    opinion = Opinion(Fusion([(scorer, 0.3)] if fused else []), ctc, weight, candidates=SIZE)
    cache = {"state": {}, "history": {}}
    limits = length_limits(spec, tf.constant(1))
    found = beam_search(step, {}, cache, tf.constant([2]), limits, spec, opinion=opinion)
    logs = log_softmax(bigrams)
    whole = log_softmax(ctc)[0]
    for place in range(3):
        length = int(found.lengths[0, place])
        tokens = found.ids[0, place, :length].numpy().tolist()
        assert tokens[-1] == EOS
        by_attention = sum(logs[before, token] for before, token in zip([2, *tokens], tokens))
        by_ctc = every_path(whole, tokens[:-1])
        expected = (1 - weight) * by_attention + weight * by_ctc + (0.3 * scorer.total(tokens[:-1]) if fused else 0)
        assert float(found.scores[0, place]) == pytest.approx(expected, abs=1e-3)


def every_path(logs, tokens):
    total = -np.inf
    for path in itertools.product(range(SIZE), repeat=len(logs)):
        if [token for token, _ in itertools.groupby(path) if token] == tokens:
            total = np.logaddexp(total, sum(logs[place, token] for place, token in enumerate(path)))
    return total


def test_ctc_prefix_probabilities_equal_the_sum_over_continuations():
    logits = np.random.default_rng(4).normal(size=(1, 4, SIZE)).astype("float32")
    opinion = Opinion(Fusion(), logits, 0.5, candidates=SIZE)
    flat = tf.zeros([1, 1, SIZE])
    states = opinion.start(tf.constant(1), 1)
    parent = tf.zeros([1, 1], tf.int32)
    prefix = []
    for token in (4, 4, 5):
        prefix.append(token)
        ranked, pending = opinion.ranked(flat, states)
        states = opinion.moved(states, pending, parent, tf.constant([[token]]))
        before = begins_with(logits[0], prefix[:-1])
        gained = 0.5 * (begins_with(logits[0], prefix) - before)
        assert float(ranked[0, 0, token]) == pytest.approx(gained, abs=1e-4)


def test_log_recurrence():
    random = np.random.default_rng(0)
    factors, terms = random.normal(size=(2, 2, 3, 7)).astype("float32")
    expected, last = [], np.full((2, 3), -1e9)
    for place in range(7):
        last = np.logaddexp(last + factors[..., place], terms[..., place])
        expected.append(last)
    np.testing.assert_allclose(
        log_recurrence(tf.constant(factors), tf.constant(terms)), np.stack(expected, -1), atol=1e-5
    )
