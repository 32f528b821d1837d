"""The swap test, and how varied outputs are."""

import numpy as np
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.scores import corpus_scores
from tfseq2seq.evaluation.swap import partners, swap_test


def test_a_partner_is_of_another_dialogue_and_has_as_many_turns_where_one_has():
    sizes, dialogues = [1, 2, 2, 1, 2, 3, 1], [1, 1, 1, 2, 2, 2, 3]
    for seed in range(20):
        chosen = partners(sizes, dialogues, seed)
        assert all(dialogues[own] != dialogues[other] for own, other in enumerate(chosen))
        # No other dialogue has three turns.
        assert all(sizes[own] == sizes[other] for own, other in enumerate(chosen) if own != 5)
    assert partners(sizes, dialogues, 3) == partners(sizes, dialogues, 3)


def test_one_dialogue_alone_has_no_partner():
    with pytest.raises(UserError, match="--swap: must have examples of at least two dialogues"):
        partners([1, 2], [4, 4], 1)


def test_the_swap_test_finds_a_fall_and_no_fall():
    random = np.random.default_rng(1)
    own, tokens = -random.uniform(10, 30, 200), np.full(200, 10)
    fallen = swap_test("context", own, own - random.uniform(0, 4, 200), tokens)
    assert fallen.high < 0 and fallen.p_value == pytest.approx(1 / 1001)
    assert fallen.difference == pytest.approx(fallen.swapped - fallen.own) == pytest.approx(-0.2, abs=0.02)
    same = swap_test("context", own, own + random.normal(0, 2, 200), tokens)
    assert same.low < 0 < same.high and same.p_value > 0.05
    assert swap_test("history", own, own, tokens).p_value == 1.0
    assert str(fallen).startswith("swap of the context: log-probability -") and "(200 answers)" in str(fallen)


def test_the_swap_test_needs_resamples():
    with pytest.raises(UserError, match="must be at least 40"):
        swap_test("context", np.zeros(3), np.zeros(3), np.ones(3), resamples=0)


def one(metric, outputs, bootstrap=0):
    (score,) = corpus_scores(outputs, [["r"] * len(outputs)], [metric], bootstrap=bootstrap)
    return score


def test_distinct_ngrams_are_counted_over_all_outputs_and_divided_by_tokens():
    outputs = ["I do not know .", "I do not know .", "i know", "你好"]
    # 12 tokens, of which 6 are different, and the pairs i-do, do-not, not-know, i-know, 你-好.
    assert one("distinct1", outputs).value == pytest.approx(100 * 6 / 12)
    assert one("distinct2", outputs).value == pytest.approx(100 * 5 / 12)
    assert one("distinct2", ["a", ""]).value == 0.0


def test_distinct_ngrams_have_no_interval():
    score = one("distinct1", ["a b", "a c"], bootstrap=100)
    assert (score.low, score.high) == (None, None) and "[" not in str(score)


def test_the_share_of_the_ten_most_frequent_outputs_has_an_interval():
    outputs = ["yes"] * 5 + ["No ", "no"] + [f"answer {number:02}" for number in range(13)]
    score = one("top10_share", outputs, bootstrap=200)
    # yes five times, no twice, and eight of the others once each.
    assert score.value == pytest.approx(100 * 15 / 20) and score.low < score.value < score.high
