"""Scorers that are automata: n-gram models give the model's numbers, phrases what a search through the text gives."""

import itertools
import random

import pytest
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.search.arpa import train_ngram
from tfseq2seq.search.automata import token_bonus
from tfseq2seq.search.fusion import Fusion
from tfseq2seq.search.ngram import ngram_scorer
from tfseq2seq.search.phrases import phrase_scorer
from tfseq2seq.search.rescoring import fusion_total
from tfseq2seq.spec import EOS, PAD

TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>", " ", "a", "b", "c", "d")
IDS = {token: index for index, token in enumerate(TOKENS)}


def total(scorer, text, weight=1.0):
    """What a scorer gives for a text and its end, each step's scores for all tokens looked at."""
    states, summed = scorer.start(1, 1), 0.0
    for token in [*(IDS.get(letter, 1) for letter in text), EOS]:
        summed += float(scorer.scores(states)[0, 0, token])
        states = scorer.advance(states, tf.constant([[token]]))
    return weight * summed


def random_texts(count, seed=0, letters="aabbbc "):
    generator = random.Random(seed)
    return ["".join(generator.choices(letters, k=generator.randint(1, 8))) for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_an_ngram_scorer_gives_the_models_log_probabilities(order):
    model = train_ngram([list(text) for text in random_texts(100)], order, (1, 1, 2) if order > 2 else ())
    scorer = ngram_scorer(model, TOKENS, "model.arpa")
    for text in [*random_texts(20, seed=1), "", "d", "ada", "ddd a"]:
        assert total(scorer, text) == pytest.approx(model.log_prob(list(text)), abs=1e-4)


def test_whole_texts_are_scored_as_token_by_token():
    model = train_ngram([list(text) for text in random_texts(100)], 3)
    scorer = ngram_scorer(model, TOKENS, "model.arpa")
    texts = random_texts(6, seed=2)
    longest = max(map(len, texts))
    ids = [[IDS[letter] for letter in text] + [PAD] * (longest - len(text)) for text in texts]
    fusion = Fusion([(scorer, 0.5), (token_bonus(len(TOKENS)), 2.0)])
    found = fusion_total(fusion, tf.reshape(tf.constant(ids), [2, 3, longest])).numpy().ravel()
    expected = [0.5 * total(scorer, text) + 2.0 * len(text) for text in texts]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_model_of_other_units_is_refused():
    model = train_ngram([["the", "cat"], ["a", "dog"]], 2)
    with pytest.raises(
        UserError, match=r"model\.arpa: at least half of its words must be tokens of the vocabulary, got 1 of 4"
    ):
        ngram_scorer(model, TOKENS, "model.arpa")


def longest_first(text, phrases):
    """The bonus of phrases found from left to right, at each place the longest."""
    index, summed = 0, 0.0
    while index < len(text):
        fits = [phrase for phrase in phrases if text.startswith(phrase, index)]
        best = max(fits, key=len, default="")
        summed += phrases[best] * len(best) if best else 0.0
        index += max(len(best), 1)
    return summed


def totals(scorer, texts):
    longest = max(map(len, texts))
    ids = [[IDS[letter] for letter in text] + [PAD] * (longest - len(text)) for text in texts]
    return fusion_total(Fusion([(scorer, 1.0)]), tf.expand_dims(tf.constant(ids), 1)).numpy()[:, 0]


def test_phrases_get_their_bonus_and_unfinished_ones_none():
    phrases = {"abc": 1.0, "ba": 2.0, "ca": 0.5, "dd": 1.5}
    scorer = phrase_scorer([([IDS[letter] for letter in phrase], weight) for phrase, weight in phrases.items()], 9)
    texts = ["".join(text) for length in range(1, 6) for text in itertools.product("abcd", repeat=length)]
    assert len(texts) > 1000
    found = totals(scorer, texts)
    assert found == pytest.approx([longest_first(text, phrases) for text in texts], abs=1e-5)


def test_a_phrase_inside_an_unfinished_one_counts():
    scorer = phrase_scorer([([5, 6, 7, 8], 1.0), ([6, 7], 1.0)], 9)
    assert total(scorer, "abcd") == pytest.approx(4.0)
    assert total(scorer, "abc") == pytest.approx(2.0)
    assert total(scorer, "abca") == pytest.approx(2.0)
    assert total(scorer, "aba") == pytest.approx(0.0)


def test_whole_words_begin_after_a_space_or_at_the_start():
    scorer = phrase_scorer([([4, 5, 6], 1.0)], 9, opening=[4])
    assert total(scorer, "ab") == total(scorer, "c ab") == pytest.approx(2.0)
    assert total(scorer, "cab") == pytest.approx(0.0)
    assert total(scorer, "ab ab") == pytest.approx(4.0)


def test_a_bonus_for_each_token_but_the_end():
    assert total(token_bonus(9), "abc") == 3.0
