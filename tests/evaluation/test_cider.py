"""CIDEr-D against values worked out by hand, and against a second implementation over dense vectors."""

import itertools
import math

import numpy as np
import pytest

from tfseq2seq.evaluation.cider import cider_scores
from tfseq2seq.evaluation.scores import corpus_scores

REFERENCES = [
    ["a dog runs on the grass", "the brown dog is running"],
    ["two people ride a horse", "people riding a brown horse outside"],
    ["a red bus", "a bus in the street"],
]


def words(texts):
    return [text.split() for text in texts]


def dense_cider(hypothesis, answers, corpus):
    """The formula over dense vectors of all n-grams of the corpus."""

    def grams(tokens, n):
        return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    total = 0.0
    for n in range(1, 5):
        known = sorted({gram for texts in [*corpus, [hypothesis]] for text in texts for gram in grams(text, n)})
        documents = [sum(any(gram in grams(text, n) for text in texts) for texts in corpus) for gram in known]
        weights = np.log(len(corpus)) - np.log(np.maximum(documents, 1))
        vector = {
            tuple(text): weights * [grams(text, n).count(gram) for gram in known] for text in [hypothesis, *answers]
        }
        for answer in answers:
            h, r = vector[tuple(hypothesis)], vector[tuple(answer)]
            lengths = np.linalg.norm(h) * np.linalg.norm(r)
            penalty = np.exp(-((len(hypothesis) - len(answer)) ** 2) / 72)
            total += penalty * (np.minimum(h, r) @ r / lengths if lengths else 0.0)
    return 10 * total / (4 * len(answers))


def test_a_copy_of_the_only_reference_has_the_score_ten():
    texts = words(["a dog runs on the grass", "two people ride a horse"])
    assert cider_scores(texts, [[text] for text in texts]) == pytest.approx([10.0, 10.0])


def test_a_score_is_the_one_worked_out_by_hand():
    # Of two examples, "x" is in both and weighs nothing; each other word and pair weighs log 2.
    # "x a" with "x b": no weighted n-gram in common. "x a" with "x a b": 1-grams 1/sqrt(2), 2-grams 1/sqrt(2).
    accepted = [[["x", "a", "b"]], [["x", "c"]]]
    penalty = math.exp(-1 / 72)
    expected = 10 * penalty * (1 / math.sqrt(2) + 1 / math.sqrt(2)) / 4
    assert cider_scores([["x", "a"], ["x", "b"]], accepted) == pytest.approx([expected, 0.0])


def test_repeating_a_word_is_clipped_to_the_count_of_the_reference():
    accepted = [[["a", "b"]], [["c", "d"]]]
    once, twice = (cider_scores([row, ["c"]], accepted)[0] for row in (["a", "b"], ["a", "a", "b"]))
    # The vector of "a a b" is (2, 1), of which min gives (1, 1): a cosine of 2 / (sqrt(5) * sqrt(2)).
    unigrams = 2 / math.sqrt(10)
    bigrams = 1 / math.sqrt(2)
    assert twice == pytest.approx(10 * math.exp(-1 / 72) * (unigrams + bigrams) / 4)
    assert twice < once == pytest.approx(5.0)


def test_scores_equal_the_formula_over_dense_vectors():
    corpus = [words(texts) for texts in REFERENCES]
    hypotheses = words(["a brown dog on the grass", "a horse", "a dog in the street street"])
    expected = [dense_cider(*pair, corpus) for pair in zip(hypotheses, corpus)]
    assert cider_scores(hypotheses, corpus) == pytest.approx(expected)
    assert min(expected) > 0


def test_a_text_without_words_scores_nothing():
    assert cider_scores([[], ["c"]], [[["a"]], [["c"]]])[0] == 0.0


def test_the_metric_is_a_mean_over_examples_with_an_interval_and_ignores_case_and_punctuation():
    hypotheses = ["A brown dog, on the grass.", "a horse", "a bus"]
    sets = [list(answers) for answers in zip(*REFERENCES)]
    (score,) = corpus_scores(hypotheses, sets, ["cider"], bootstrap=100)
    plain = words(["a brown dog on the grass", "a horse", "a bus"])
    assert score.value == pytest.approx(100 * np.mean(cider_scores(plain, [words(texts) for texts in REFERENCES])))
    assert score.low <= score.value <= score.high and score.name == "CIDEr-D"


def test_bleu_of_shorter_n_grams_is_never_lower():
    sets = [list(answers) for answers in itertools.zip_longest(*REFERENCES)]
    hypotheses = ["a dog on the grass", "two people riding a horse", "a red bus in the street"]
    names = ["bleu1", "bleu2", "bleu3", "bleu4", "bleu"]
    one, two, three, four, usual = (score.value for score in corpus_scores(hypotheses, sets, names, bootstrap=0))
    assert one > two > three > four == usual > 0


def test_bleu_of_single_words_is_their_precision():
    (score,) = corpus_scores(["a cat sat"], [["a dog sat"]], ["bleu1"], bootstrap=0)
    assert score.value == pytest.approx(200 / 3) and score.name == "BLEU-1"
