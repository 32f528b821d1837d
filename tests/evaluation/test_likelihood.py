"""Perplexity of tokens, of characters and of bytes."""

import math

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.likelihood import LIKELIHOODS, likelihood_scores
from tfseq2seq.evaluation.metrics import Settings
from tfseq2seq.evaluation.scores import perplexity


def values(log_probs, tokens, texts, **settings):
    return {
        one.name: one for one in likelihood_scores(log_probs, tokens, texts, list(LIKELIHOODS), Settings(**settings))
    }


def test_sizes_are_tokens_characters_and_bytes_each_with_the_end_of_the_line():
    found = values([-6.0, -12.0], [2, 4], ["你好", " abc "])
    assert found["perplexity"].value == pytest.approx(perplexity(-18.0, 6)) == pytest.approx(math.exp(3))
    assert found["perplexity per character"].value == pytest.approx(math.exp(18 / 7))
    assert found["bits per byte"].value == pytest.approx(18 / math.log(2) / 11)
    assert found["bits per byte"].signature == "per:byte|end:counted|bytes:11" and found["perplexity"].low is None


def test_a_uniform_model_of_characters_costs_its_alphabet_whatever_the_vocabulary():
    # Each of 8 characters and the end is as probable as the others, told in characters and in pairs of them.
    texts = ["ab" * 5, "c" * 4]
    of_characters = values([-11 * math.log(9), -5 * math.log(9)], [11, 5], texts)
    of_pairs = values([-11 * math.log(9), -5 * math.log(9)], [6, 3], texts)
    name = "perplexity per character"
    assert of_characters[name].value == pytest.approx(9) == of_pairs[name].value
    assert of_characters["perplexity"].value == pytest.approx(9) != of_pairs["perplexity"].value


def test_the_interval_holds_the_score_and_widens_with_the_difference_of_texts():
    alike = values([-4.0, -4.1, -3.9, -4.0] * 5, [3] * 20, ["ab"] * 20, resamples=200)["bits per byte"]
    apart = values([-1.0, -9.0, -2.0, -7.0] * 5, [3] * 20, ["ab"] * 20, resamples=200)["bits per byte"]
    for one in (alike, apart):
        assert one.low < one.value < one.high
    assert apart.high - apart.low > 5 * (alike.high - alike.low)


def test_nothing_to_score_is_told():
    with pytest.raises(UserError, match="there is no text to score"):
        values([], [], [])
