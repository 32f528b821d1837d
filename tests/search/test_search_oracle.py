"""Search against brute force, on small random models whose next token depends on the whole past."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfseq2seq.search.beam import beam_search
from tfseq2seq.search.constraints import length_limits
from tfseq2seq.search.ensemble import ensemble_cache, ensemble_step
from tfseq2seq.search.sampling import sample
from tfseq2seq.spec import BOS, EOS, PAD, SearchSpec

VOCABULARY, LENGTH, SOURCE = 6, 4, 3
WORDS = [token for token in range(VOCABULARY) if token not in (PAD, BOS, EOS)]
MODELS = 300


class RandomModel:
    """A recurrent state (reordered) and a sum over written entries (found by `visible`) both decide the logits."""

    width = 5

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        width = self.width
        self.embed = random.normal(size=(VOCABULARY, width)).astype("float32")
        self.recur = random.normal(size=(width, width)).astype("float32")
        self.output = (2 * random.normal(size=(2 * width, VOCABULARY))).astype("float32")
        self.align = random.normal(size=(2 * width, SOURCE)).astype("float32")

    @property
    def weights(self):
        return [self.embed, self.recur, self.output, self.align]

    @classmethod
    def of(cls, weights):
        """The model with these weights, which may be tensors of a graph."""
        model = cls.__new__(cls)
        model.embed, model.recur, model.output, model.align = weights
        return model

    def start(self, batch, beam, length):
        state = tf.zeros([batch, beam, self.width])
        return {"offset": tf.zeros([batch, 1, 1])}, {
            "state": {"h": state},
            "history": [tf.zeros([batch, beam * length, self.width])],
        }

    def step(self, ids, index, visible, fixed, cache):
        vectors = tf.gather(self.embed, ids)
        state = tf.tanh(vectors + tf.matmul(cache["state"]["h"], self.recur))
        entries = cache["history"][0]
        beam = tf.shape(ids)[1]
        rows = index * beam + tf.range(beam)
        entries = tf.tensor_scatter_nd_update(
            tf.transpose(entries, [1, 0, 2]), rows[:, None], tf.transpose(vectors, [1, 0, 2])
        )
        entries = tf.transpose(entries, [1, 0, 2])
        past = tf.matmul(tf.cast(visible, tf.float32), entries)
        hidden = tf.concat([state, past], axis=-1)
        attention = tf.nn.softmax(hidden @ self.align)
        return hidden @ self.output + fixed["offset"], {"state": {"h": state}, "history": [entries]}, attention

    def log_prob(self, tokens):
        """Of a complete sequence, and its attention [T, S], by plain numpy."""
        state, past, total, attention = np.zeros(self.width), np.zeros(self.width), 0.0, []
        for last, following in zip([BOS, *tokens[:-1]], tokens, strict=True):
            state = np.tanh(self.embed[last] + state @ self.recur)
            past = past + self.embed[last]
            hidden = np.concatenate([state, past])
            logits = hidden @ self.output
            total += logits[following] - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()
            scores = np.exp(hidden @ self.align)
            attention.append(scores / scores.sum())
        return total, np.array(attention)


def every_sequence(length=LENGTH):
    for words in range(length):
        for sequence in itertools.product(WORDS, repeat=words):
            yield [*sequence, EOS]


def run_eagerly(model, spec, batch=1, prefix=None, with_attention=False, masked=False):
    prefix = None if prefix is None else tf.constant(prefix)
    limits = length_limits(spec, batch, prefix=prefix)
    fixed, cache = model.start(batch, spec.beam, 1)
    mask = tf.fill([1, SOURCE], True) if masked else None
    options = {"prefix": prefix, "with_attention": with_attention, "memory_mask": mask}
    return beam_search(model.step, fixed, cache, tf.fill([batch], BOS), limits, spec, **options)


@functools.cache
def graph_of_search(spec, **options):
    """A function of the weights of a model. Traced once, it searches in dozens of models in the time that one search
    takes eagerly."""
    return tf.function(lambda weights: run_eagerly(RandomModel.of(weights), spec, **options), autograph=False)


def run(model, spec, prefix=None, **options):
    if prefix is not None:
        options["prefix"] = tuple(map(tuple, prefix))
    return graph_of_search(spec, **options)(model.weights)


def tokens_of(result, row=0, rank=0):
    return result.ids.numpy()[row, rank, : result.lengths.numpy()[row, rank]].tolist()


@pytest.mark.parametrize("beam", [1, 2, 3, 5, 8])
def test_every_score_is_the_log_probability_of_its_tokens(beam):
    spec = SearchSpec(beam=beam, n_best=beam, max_length=LENGTH, alpha=0.8)
    for seed in range(MODELS // 5):
        model = RandomModel(seed * 5 + beam)
        result = run(model, spec) if seed else run_eagerly(model, spec)
        for rank in range(beam):
            tokens = tokens_of(result, rank=rank)
            if not tokens:
                assert result.scores.numpy()[0, rank] < -1e8
                continue
            expected, _ = model.log_prob(tokens)
            assert abs(result.log_probs.numpy()[0, rank] - expected) < 1e-4
            assert abs(result.scores.numpy()[0, rank] - expected / ((5 + len(tokens)) / 6) ** 0.8) < 1e-4


@pytest.mark.parametrize("stop", ["full", "exact"])
@pytest.mark.parametrize("penalty,alpha", [("none", 0.0), ("gnmt", 0.6), ("average", 1.0)])
def test_a_beam_as_wide_as_the_space_is_exhaustive_search(penalty, alpha, stop):
    sequences = list(every_sequence())
    beam = len(WORDS) ** (LENGTH - 1) * 2
    spec = SearchSpec(beam=beam, n_best=5, max_length=LENGTH, length_penalty=penalty, alpha=alpha, stop=stop)
    for seed in range(MODELS // 6):
        model = RandomModel(1000 + seed)
        divisor = {"none": lambda n: 1.0, "gnmt": lambda n: ((5 + n) / 6) ** alpha, "average": lambda n: n**alpha}[
            penalty
        ]
        ranked = sorted(((model.log_prob(s)[0] / divisor(len(s)), s) for s in sequences), reverse=True)[:5]
        result = run(model, spec)
        np.testing.assert_allclose(result.scores.numpy()[0], [score for score, _ in ranked], atol=1e-4)
        assert [tokens_of(result, rank=r) for r in range(5)] == [s for _, s in ranked]


def test_the_cache_grows_with_the_output():
    """Through all loops of a search: the score is still that of the tokens, and a larger capacity changes nothing."""
    for least in (14, 15, 16, 20, 63, 70):
        spec = SearchSpec(beam=3, n_best=3, min_length=least, max_length=80)
        for seed in range(2):
            model = RandomModel(seed)
            found = run(model, spec, with_attention=True, masked=True)
            tokens = tokens_of(found)
            assert len(tokens) > least
            log_prob, attention = model.log_prob(tokens)
            assert found.log_probs.numpy()[0, 0] == pytest.approx(log_prob, rel=1e-5)
            np.testing.assert_allclose(found.attention.numpy()[0, 0, : len(tokens)], attention, atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_cache_grows_in_a_graph_too(compiled):
    model, spec = RandomModel(1), SearchSpec(beam=2, n_best=2, min_length=20, max_length=80)
    graph = tf.function(lambda: run_eagerly(model, spec), jit_compile=compiled, autograph=False)
    np.testing.assert_array_equal(graph().ids, run_eagerly(model, spec).ids)


def test_the_cache_grows_for_samples_and_long_prefixes():
    model = RandomModel(3)
    spec = SearchSpec(sample=True, n_best=3, min_length=20, max_length=40)
    limits = length_limits(spec, 1)
    for capacity in (1, 30):  # the capacity grows as needed; a larger initial capacity does no harm
        fixed, cache = model.start(1, 3, capacity)
        found = sample(model.step, fixed, cache, tf.fill([1], BOS), limits, spec)
        for rank in range(3):
            tokens = tokens_of(found, rank=rank)
            assert len(tokens) > 20
            assert found.log_probs.numpy()[0, rank] == pytest.approx(model.log_prob(tokens)[0], rel=1e-4)
    spec = SearchSpec(beam=2, max_length=18)
    prefix = tf.constant([[4, 5] * 10])
    limits = length_limits(spec, 1, prefix=prefix)
    fixed, cache = model.start(1, 2, 1)
    found = beam_search(model.step, fixed, cache, tf.fill([1], BOS), limits, spec, prefix=prefix)
    assert tokens_of(found)[:20] == [4, 5] * 10 and tokens_of(found)[-1] == EOS


def test_greedy_is_the_likeliest_token_each_time():
    for seed in range(50):
        model, tokens = RandomModel(seed), []
        while not tokens or tokens[-1] != EOS:
            last_chance = len(tokens) + 1 == LENGTH
            choices = [EOS] if last_chance else [EOS, *WORDS]
            tokens.append(max(choices, key=lambda t: model.log_prob([*tokens, t])[0]))
        result = run(model, SearchSpec(beam=1, max_length=LENGTH))
        assert tokens_of(result) == tokens


def test_exact_stopping_never_loses_to_a_full_beam():
    for seed in range(50):
        model = RandomModel(seed)
        options = {"beam": 3, "max_length": 6, "length_penalty": "average", "alpha": 1.0}
        full = run(model, SearchSpec(stop="full", **options)).scores.numpy()[0, 0]
        exact = run(model, SearchSpec(stop="exact", **options)).scores.numpy()[0, 0]
        assert exact >= full - 1e-6


def test_attention_follows_the_returned_hypothesis():
    for seed in range(30):
        model = RandomModel(seed)
        spec = SearchSpec(beam=4, n_best=4, max_length=5)
        result = run(model, spec, with_attention=True, masked=True)
        for rank in range(4):
            tokens = tokens_of(result, rank=rank)
            if tokens:
                np.testing.assert_allclose(
                    result.attention.numpy()[0, rank, : len(tokens)], model.log_prob(tokens)[1], atol=1e-4
                )


def test_coverage_penalty_enters_the_score():
    spec = SearchSpec(beam=4, n_best=4, max_length=5, length_penalty="none", coverage_penalty=0.7)
    for seed in range(30):
        model = RandomModel(seed)
        result = run(model, spec, masked=True)
        for rank in range(4):
            tokens = tokens_of(result, rank=rank)
            if tokens:
                log_prob, attention = model.log_prob(tokens)
                expected = log_prob + 0.7 * np.log(np.minimum(attention.sum(0), 1)).sum()
                assert abs(result.scores.numpy()[0, rank] - expected) < 1e-3


def test_limits_and_prefixes_hold():
    for seed in range(30):
        model = RandomModel(seed)
        result = run(model, SearchSpec(beam=3, n_best=3, min_length=2, max_length=4))
        lengths = result.lengths.numpy()[0]
        assert all(length in (0, 3, 4) for length in lengths)
        spec = SearchSpec(beam=3, n_best=3, max_length=5)
        found = run(model, spec, prefix=[[4, 3], [5, 0]], batch=2)
        for rank in range(3):
            for row, expected in enumerate(([4, 3], [5])):
                tokens = tokens_of(found, row, rank)
                assert not tokens or tokens[: len(expected)] == expected
                if tokens:
                    assert abs(found.log_probs.numpy()[row, rank] - model.log_prob(tokens)[0]) < 1e-4


def test_blocked_repetition_does_not_come_back():
    for seed in range(40):
        model = RandomModel(seed)
        for n in (1, 2):
            result = run(model, SearchSpec(beam=2, n_best=2, max_length=9, no_repeat_ngram=n, min_length=2))
            for rank in range(2):
                tokens = tokens_of(result, rank=rank)[:-1]
                grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
                assert len(grams) == len(set(grams))
        result = run(model, SearchSpec(beam=1, max_length=9, min_length=8, max_run=2))
        tokens = tokens_of(result)
        assert all(len(set(tokens[i : i + 3])) > 1 for i in range(len(tokens) - 2))


def test_a_forced_prefix_may_repeat_itself():
    spec = SearchSpec(beam=2, n_best=1, max_length=6, no_repeat_ngram=1, max_run=1)
    prefix = tf.constant([[4, 4, 4]])
    limits = length_limits(spec, 1, prefix=prefix)
    model = RandomModel(2)
    fixed, cache = model.start(1, 2, 1)
    found = beam_search(model.step, fixed, cache, tf.fill([1], BOS), limits, spec, prefix=prefix)
    tokens = tokens_of(found)
    assert tokens[:3] == [4, 4, 4] and 4 not in tokens[3:]
    assert abs(found.log_probs.numpy()[0, 0] - model.log_prob(tokens)[0]) < 1e-4


def test_rows_of_a_batch_do_not_disturb_each_other():
    spec = SearchSpec(beam=3, n_best=2, max_length=7, max_ratio=1.0)
    model = RandomModel(3)
    offsets = np.random.default_rng(0).normal(size=(4, 1, VOCABULARY)).astype("float32")

    def search(rows, lengths):
        limits = length_limits(spec, len(rows), tf.constant(lengths))
        fixed, cache = model.start(len(rows), spec.beam, limits.longest)
        return beam_search(
            model.step, {"offset": tf.constant(offsets[rows])}, cache, tf.fill([len(rows)], BOS), limits, spec
        )

    lengths = [1, 2, 3, 4]
    together = search([0, 1, 2, 3], lengths)
    for row in range(4):
        alone = search([row], lengths[row : row + 1])
        for rank in range(2):
            assert tokens_of(alone, 0, rank) == tokens_of(together, row, rank)
        np.testing.assert_allclose(alone.scores[0], together.scores[row], atol=1e-5)


def test_samples_repeat_under_a_seed_and_follow_the_distribution():
    model = RandomModel(11)
    limits = length_limits(SearchSpec(max_length=3), 1)

    def draw(**options):
        spec = SearchSpec(sample=True, max_length=3, **options)
        fixed, cache = model.start(1, spec.n_best, 1)
        return sample(model.step, fixed, cache, tf.fill([1], BOS), limits, spec)

    first, again = draw(n_best=2000, seed=5), draw(n_best=2000, seed=5)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert not np.array_equal(first.ids, draw(n_best=2000, seed=6).ids)
    found = [tuple(tokens_of(first, rank=r)) for r in range(2000)]
    for rank in range(20):
        assert abs(first.log_probs.numpy()[0, rank] - model.log_prob(list(found[rank]))[0]) < 1e-4
    starts = np.bincount([tokens[0] for tokens in found], minlength=VOCABULARY)
    allowed = [EOS, *WORDS]
    expected = np.exp([model.log_prob([token])[0] for token in allowed])
    np.testing.assert_allclose(starts[allowed] / 2000, expected / expected.sum(), atol=0.05)
    assert len({tuple(tokens_of(draw(n_best=50, top_k=1), rank=r)) for r in range(50)}) == 1
    assert len({tuple(tokens_of(draw(n_best=50, top_p=1e-6), rank=r)) for r in range(50)}) == 1
    cold = draw(n_best=50, temperature=0.01)
    assert len({tuple(tokens_of(cold, rank=r)) for r in range(50)}) <= 2


def test_an_ensemble_of_one_model_twice_is_that_model_and_scores_are_mean_probabilities():
    one, two = RandomModel(1), RandomModel(2)
    spec = SearchSpec(beam=3, n_best=3, max_length=5)
    limits = length_limits(spec, 1)

    def search(models):
        parts = [model.start(1, 3, 1) for model in models]
        step = ensemble_step([model.step for model in models])
        cache = ensemble_cache([cache for _, cache in parts])
        return beam_search(step, [fixed for fixed, _ in parts], cache, tf.fill([1], BOS), limits, spec)

    np.testing.assert_array_equal(search([one, one]).ids, run(one, spec).ids)
    np.testing.assert_allclose(search([one, one]).scores, run(one, spec).scores, atol=1e-5)
    mixed = search([one, two])
    tokens = tokens_of(mixed)
    total = sum(
        np.logaddexp(*(m.log_prob(tokens[: i + 1])[0] - (m.log_prob(tokens[:i])[0] if i else 0) for m in (one, two)))
        - np.log(2)
        for i in range(len(tokens))
    )
    assert abs(mixed.log_probs.numpy()[0, 0] - total) < 1e-4


def test_the_same_search_compiles_with_xla():
    model, spec = RandomModel(4), SearchSpec(beam=3, n_best=3, max_length=6)
    compiled = tf.function(lambda: run_eagerly(model, spec), jit_compile=True, autograph=False)()
    np.testing.assert_array_equal(compiled.ids, run_eagerly(model, spec).ids)


def drawn(model, spec, batch=1, seeds=None, logits=None):
    """What is drawn from a model, or from the same logits at every position."""
    fixed, cache = model.start(batch, spec.n_best, 1)
    step = model.step
    if logits is not None:

        def step(ids, index, visible, fixed, cache):
            _, cache, attention = model.step(ids, index, visible, fixed, cache)
            return tf.broadcast_to(tf.constant(logits, tf.float32), [batch, spec.n_best, VOCABULARY]), cache, attention

    seeds = None if seeds is None else tf.constant(seeds)
    limits = length_limits(spec, batch)
    return sample(step, fixed, cache, tf.fill([batch], BOS), limits, spec, seeds=seeds)


def test_what_is_drawn_for_an_example_depends_on_its_seeds_alone():
    model, spec = RandomModel(4), SearchSpec(sample=True, n_best=3, max_length=8)
    seeds = [[1, 0], [1, 1], [2, 0], [1, 0]]
    together = drawn(model, spec, 4, seeds)
    rows = [[tokens_of(together, row, rank) for rank in range(3)] for row in range(4)]
    assert rows[0] == rows[3] and rows[0] != rows[1] and rows[0] != rows[2]
    for row in range(3):
        alone = drawn(model, spec, 1, seeds[row : row + 1])
        assert [tokens_of(alone, 0, rank) for rank in range(3)] == rows[row]
    # A longer limit does not change what comes before it.
    longer = drawn(model, dataclasses.replace(spec, max_length=30), 1, [[1, 0]])
    assert [tokens_of(longer, 0, rank)[:7] for rank in range(3)] == [tokens[:7] for tokens in rows[0]]


def test_min_p_draws_tokens_of_at_least_its_share_of_the_most_probable_ones_probability():
    logits = np.log([1e-9, 0.4, 1e-9, 0.25, 0.2, 0.15])

    def found(min_p):
        spec = SearchSpec(sample=True, n_best=400, max_length=3, min_p=min_p)
        return set(np.unique(drawn(RandomModel(1), spec, logits=logits).ids.numpy()[0, :, 0]))

    assert found(0.0) == {1, 3, 4, 5}
    assert found(0.45) == {1, 3, 4}
    assert found(0.6) == {1, 3}
    assert found(1.0) == {1}


def test_the_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones():
    # The most probable token is 1, until the penalty puts it behind 4, and then 4 behind 5.
    logits = [-20.0, 3.0, -20.0, -9.0, 2.9, -1.0]

    def found(penalty):
        spec = SearchSpec(sample=True, top_k=1, max_length=6, repetition_penalty=penalty)
        result = drawn(RandomModel(1), spec, logits=logits)
        expected = np.sum([np.log(np.exp(logits[token]) / np.exp(logits).sum()) for token in tokens_of(result)])
        # The log-probability is that of the model, without the penalty.
        assert result.log_probs.numpy()[0, 0] == pytest.approx(expected, rel=1e-4)
        return tokens_of(result)

    assert found(1.0) == [1, 1, 1, 1, 1, EOS]
    # Once both are divided, their order is the old one again.
    assert found(1.5) == [1, 4, 1, 1, 1, EOS]
    # -1.0 is multiplied: 5 stays behind a divided 1.
    assert found(100.0) == [1, 4, 1, 1, 1, EOS]
    assert found(0.5) == [1, 1, 1, 1, 1, EOS]
