"""The paired bootstrap."""

import json
import math

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.compare import compare
from tfseq2seq.evaluation.metrics import METRICS, WITHOUT_REFERENCES

REFERENCE = [
    f"the {a} cat sat on {b} mat number {i}" for i, (a, b) in enumerate(zip("abcde", "klmno", strict=True))
] * 8
GOOD = [line.replace("sat", "sits") if i % 4 == 0 else line for i, line in enumerate(REFERENCE)]
BAD = [line.replace("the", "a").replace("on", "in") if i % 2 else line for i, line in enumerate(REFERENCE)]


REFERENCED = [metric for metric in METRICS if metric not in WITHOUT_REFERENCES]


@pytest.mark.parametrize("metric", REFERENCED)
def test_identical_outputs_do_not_differ(metric):
    comparison = compare(GOOD, GOOD, [REFERENCE], metric, resamples=40)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", REFERENCED)
def test_a_better_output_is_better_both_ways_round(metric):
    better = compare(GOOD, BAD, [REFERENCE], metric, resamples=200)
    worse = compare(BAD, GOOD, [REFERENCE], metric, resamples=200)
    assert (better.difference < 0) == better.lower_is_better
    assert worse.difference == -better.difference
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    assert worse.p_value == better.p_value
    assert better.low <= better.difference <= better.high


def test_scores_and_intervals_are_those_of_sacrebleus_paired_test():
    ours = compare(GOOD, BAD, [REFERENCE], "bleu", resamples=200)
    _, theirs = PairedTest([("bad", BAD), ("good", GOOD)], {"BLEU": BLEU()}, [REFERENCE], "bs", n_samples=200)()
    baseline, system = theirs["BLEU"]
    assert (ours.system.value, ours.baseline.value) == pytest.approx((system.score, baseline.score))
    assert (ours.system.high - ours.system.low) / 2 == pytest.approx(system.ci, abs=1e-3)
    assert (ours.baseline.high - ours.baseline.low) / 2 == pytest.approx(baseline.ci, abs=1e-3)


def test_p_value_of_a_proportion_is_near_that_of_the_paired_z_test():
    # Of 400 examples the system alone is right on 30, the baseline alone on 18.
    examples = 400
    system = ["a" if i < 230 else "x" for i in range(examples)]
    baseline = ["a" if i < 200 or 230 <= i < 248 else "x" for i in range(examples)]
    comparison = compare(system, baseline, [["a"] * examples], "exact_match", resamples=4000)
    difference = (30 - 18) / examples
    deviation = math.sqrt(((30 + 18) / examples - difference**2) / examples)
    two_sided = math.erfc(difference / deviation / math.sqrt(2))
    assert comparison.difference == pytest.approx(100 * difference)
    assert comparison.p_value == pytest.approx(two_sided, abs=0.02)
    half = 100 * 1.96 * deviation
    assert (comparison.low, comparison.high) == pytest.approx((3 - half, 3 + half), abs=0.4)


def test_a_certain_difference_has_the_least_p_value():
    comparison = compare(["a"] * 20, ["b"] * 20, [["a"] * 20], "exact_match", resamples=99)
    assert (comparison.difference, comparison.p_value) == (100.0, 0.01)


def test_prints_and_serializes():
    comparison = compare(["a"] * 20, ["b"] * 20, [["a"] * 20], "wer_any", resamples=99)
    assert str(comparison) == (
        "wer_any 0.00 against 100.00: difference = -100.00 [-100.00, -100.00], p = 0.0100, lower is better "
        "(nrefs:1|bs:99|seed:12345|case:mixed|tok:line|avg:corpus)"
    )
    assert json.loads(json.dumps(comparison.as_dict()))["baseline"]["value"] == 100.0


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ((["a"], ["a", "b"], [["a"]], "bleu"), "system and baseline: must have the same number of lines, got 1 and 2"),
        ((["a"], ["a"], [["a", "b"]], "bleu"), r"references\[0\]: must have one line per hypothesis \(1\), got 2"),
        ((["a"], [], [["a"]], "bleu"), "baseline: must have at least one line, got none"),
        ((["a"], ["a"], [["a"]], "blue"), "did you mean 'bleu'"),
        ((["a"], ["a"], [["a"]], "bleu", 0), "resamples: must be at least 40"),
    ],
)
def test_bad_input_is_refused(arguments, reason):
    with pytest.raises(UserError, match=reason):
        compare(*arguments)


def test_a_score_that_cannot_be_resampled_is_refused():
    with pytest.raises(UserError, match="metric 'distinct2' is not a mean over examples"):
        compare(["a b"], ["a c"], [["a"]], "distinct2")
