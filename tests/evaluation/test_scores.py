"""Corpus scores: values computed by hand, and agreement with sacrebleu."""

import json
import math
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jiwer
import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation import bootstrap
from tfseq2seq.evaluation.metrics import LOWER_IS_BETTER, METRICS, WITHOUT_REFERENCES, edit_distance
from tfseq2seq.evaluation.scores import Score, corpus_scores, perplexity

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "hat", ",", "."]


def corpus(seed: int, examples: int = 60) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(4, 12))) for _ in range(examples)]


def noisy(lines: list[str], seed: int, share: float = 0.2) -> list[str]:
    generator = random.Random(seed)
    return [
        " ".join(generator.choice(WORDS) if generator.random() < share else word for word in line.split())
        for line in lines
    ]


def value(metric: str, hypotheses: list[str], references: list[list[str | None]], **options) -> float:
    [score] = corpus_scores(hypotheses, references, [metric], bootstrap=0, **options)
    return score.value


# ---- through sacrebleu ----------------------------------------------------------------------------------------------

FIRST = corpus(0)
SECOND: list[str | None] = [line if i % 3 else None for i, line in enumerate(noisy(FIRST, 1))]
OUTPUT = [line.capitalize() for line in noisy(FIRST, 2)]


@pytest.mark.parametrize("references", [[FIRST], [FIRST, SECOND]], ids=["one", "variable"])
@pytest.mark.parametrize(
    "metric, library", [("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())], ids=["bleu", "chrf", "ter"]
)
def test_value_interval_and_signature_are_those_of_sacrebleu(metric, library, references):
    theirs = library.corpus_score(OUTPUT, references, n_bootstrap=200)
    [ours] = corpus_scores(OUTPUT, references, [metric], bootstrap=200)
    assert (ours.name, ours.signature) == (theirs.name, str(library.get_signature()))
    assert ours.value == pytest.approx(theirs.score, abs=1e-9)
    # sacrebleu keeps the middle and half the width of the same interval, in float32.
    assert (ours.high - ours.low) / 2 == pytest.approx(theirs._ci, abs=1e-3)
    assert ours.low < ours.value < ours.high


def test_bleu_is_corpus_bleu_with_each_tokenizer():
    hypotheses, references = (
        ["我喜欢北京的秋天。", "Hello, World-wide web!"],
        [["我爱北京的秋天。", "Hello, world-wide Web!"]],
    )
    for tokenize in ("13a", "intl", "zh", "char", "none"):
        theirs = sacrebleu.corpus_bleu(hypotheses, references, tokenize=tokenize, lowercase=True).score
        assert value("bleu", hypotheses, references, tokenize=tokenize, lowercase=True) == pytest.approx(theirs)


def test_ter_counts_chinese_characters_where_bleu_does():
    # One character of five is wrong; in whole "words" all of them are.
    assert value("ter", ["我爱北京人"], [["我爱北京城"]], tokenize="zh") == pytest.approx(20.0)
    assert value("ter", ["我爱北京人"], [["我爱北京城"]]) == pytest.approx(100.0)


def test_blank_second_reference_is_a_missing_one():
    blank = ["" if answer is None else answer for answer in SECOND]
    for metric in ("bleu", "chrf", "ter"):
        assert value(metric, OUTPUT, [FIRST, blank]) == value(metric, OUTPUT, [FIRST, SECOND])


# ---- our own --------------------------------------------------------------------------------------------------------


def test_exact_match_and_wer_any_take_any_reference():
    hypotheses = ["AH B", " EY B ", "B AH", "X"]
    references = [["AH B", "AH B", "AH B", "Y"], [None, "EY B", "b ah", None]]
    assert value("exact_match", hypotheses, references) == 50.0
    assert value("wer_any", hypotheses, references) == 50.0
    assert value("exact_match", hypotheses, references, lowercase=True) == 75.0


def test_token_accuracy_by_hand():
    # a b c against a x c: 2 of 3; against a b: 2 of 3. Second example: d against d e: 1 of 2, against q: 0 of 1.
    assert value("token_accuracy", ["a b c", "d"], [["a x c", "d e"], ["a b", "q"]]) == pytest.approx(100 * 3 / 5)
    # Two references with the same ratio: the longer, in either order.
    for references in ([["a x", "q"], ["a b y z", "q"]], [["a b y z", "q"], ["a x", "q"]]):
        assert value("token_accuracy", ["a b", "q"], references) == pytest.approx(100 * 3 / 5)
    assert value("token_accuracy", ["x a b"], [["a b"]]) == 0.0
    assert value("token_accuracy", [""], [[""]]) == 100.0


@pytest.mark.parametrize("metric", ["token_error_rate", "phoneme_error_rate"])
def test_token_error_rate_by_hand(metric):
    # First example: 1 error of 4 against the first reference, 2 of 2 against the second; second example: 1 of 2.
    assert value(metric, ["a b c d", "e f"], [["a b x d", "e"], ["a c", "e g"]]) == pytest.approx(100 * 2 / 6)
    # Two references equally near: the longer, in either order.
    assert value(metric, ["a b"], [["a b c"], ["a"]]) == value(metric, ["a b"], [["a"], ["a b c"]])
    assert value(metric, ["a b"], [["a"], ["a b c"]]) == pytest.approx(100 / 3)


def test_token_error_rate_without_reference_tokens():
    assert value("token_error_rate", [""], [[""]]) == 0.0
    assert value("token_error_rate", ["a b"], [[""]]) == 100.0
    assert value("token_error_rate", ["a b", "c"], [["", "c"]]) == 200.0


def test_edit_distance_is_that_of_the_plain_recursion():
    def plain(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(plain(a[1:], b[1:]) + (a[0] != b[0]), plain(a[1:], b) + 1, plain(a, b[1:]) + 1)

    generator = random.Random(0)
    assert edit_distance("kitten", "sitting") == 3
    for _ in range(200):
        a, b = ("".join(generator.choices("ab", k=generator.randint(0, 5))) for _ in range(2))
        assert edit_distance(a, b) == plain(a, b)


# ---- through jiwer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric, process", [("wer", jiwer.process_words), ("cer", jiwer.process_characters)])
def test_error_rates_and_counts_are_those_of_jiwer(metric, process):
    hypotheses = [*(" ".join(line.split()[i % 3 :]) for i, line in enumerate(OUTPUT)), "x  y ", "", "我爱 北京人"]
    references = [*FIRST, "", "a b", "我很爱北京"]
    theirs = process(references, hypotheses)
    [ours] = corpus_scores(hypotheses, [references], [metric], bootstrap=100)
    assert ours.value == pytest.approx(100 * getattr(theirs, metric))
    assert ours.details == {
        "length": sum(map(len, theirs.references)),
        "substitutions": theirs.substitutions,
        "deletions": theirs.deletions,
        "insertions": theirs.insertions,
    }
    assert min(ours.details.values()) > 0 and ours.low < ours.value < ours.high


def test_error_rates_take_the_nearest_reference_and_its_counts():
    # One error of 4 against the first reference, 2 of 2 against the second; then 1 of 2: the longer.
    for references in ([["a b x d", "e"], ["a c", "e g"]], [["a c", "e g"], ["a b x d", "e"]]):
        [score] = corpus_scores(["a b c d", "e f"], references, ["wer"], bootstrap=0)
        assert score.value == pytest.approx(100 * 2 / 6)
        assert score.details == {"length": 6, "substitutions": 2, "deletions": 0, "insertions": 0}


def test_error_rates_without_reference_tokens():
    for metric in ("wer", "cer"):
        assert value(metric, [""], [[""]]) == 0.0
        assert value(metric, ["a b"], [[""]]) == 100.0
        [score] = corpus_scores(["a b", "c"], [["", "c"]], [metric], bootstrap=0)
        inserted = {"wer": 2, "cer": 3}[metric]
        assert score.value == 100.0 * inserted
        assert score.details == {"length": 1, "substitutions": 0, "deletions": 0, "insertions": inserted}


def test_what_words_and_characters_are():
    assert value("wer", [" a\tb \u3000c"], [["a b c"]]) == 0.0
    assert value("cer", [" ab "], [["a b"]]) == pytest.approx(100 / 3)
    assert value("cer", ["我爱北京。"], [["我爱北京"]]) == pytest.approx(25.0)
    assert value("cer", ["AB"], [["ab"]]) == 100.0
    assert value("cer", ["AB"], [["ab"]], lowercase=True) == 0.0


def test_error_rate_prints_and_serializes_its_counts():
    [score] = corpus_scores(["a b"], [["a c d"]], ["wer"], bootstrap=0)
    signature = f"nrefs:1|case:mixed|tok:space|avg:corpus|jiwer:{version('jiwer')}"
    assert str(score) == f"WER = 66.67, length 3, substitutions 1, deletions 1, insertions 0 ({signature})"
    fields = json.loads(json.dumps(score.as_dict()))
    assert fields["details"] == {"length": 3, "substitutions": 1, "deletions": 1, "insertions": 0}
    assert set(fields) == {"name", "value", "low", "high", "signature", "details"}
    assert hash(score) == hash(corpus_scores(["a b"], [["a c d"]], ["wer"], bootstrap=0)[0])


# ---- intervals, signatures, output ----------------------------------------------------------------------------------


def test_interval_of_a_proportion_is_near_the_normal_one():
    hypotheses = ["a"] * 300 + ["b"] * 700
    [score] = corpus_scores(hypotheses, [["a"] * 1000], ["exact_match"])
    half = 1.96 * 100 * math.sqrt(0.3 * 0.7 / 1000)
    assert (score.low, score.high) == pytest.approx((30 - half, 30 + half), abs=0.4)


def test_the_seed_decides_the_interval_and_the_chunk_does_not(monkeypatch):
    arguments = (OUTPUT, [FIRST], ["token_accuracy", "chrf"])
    before = corpus_scores(*arguments, seed=1)
    assert before != corpus_scores(*arguments, seed=2)
    monkeypatch.setattr(bootstrap, "_CHUNK", 7 * len(OUTPUT))
    assert before == corpus_scores(*arguments, seed=1)


def test_resampled_sums_gather_what_the_generator_draws():
    statistics = np.arange(10.0).reshape(5, 2)
    drawn = np.random.default_rng(3).choice(5, size=(40, 5), replace=True)
    np.testing.assert_array_equal(bootstrap.resampled_sums(statistics, 40, 3), statistics[drawn].sum(1))


def test_confidence_interval_cuts_a_fortieth_from_each_end():
    assert bootstrap.confidence_interval(np.arange(1000.0)[::-1]) == (25.0, 974.0)


def test_score_prints_and_serializes():
    score = Score("BLEU", 25.449, 24.1, 26.8, "nrefs:1|case:mixed")
    assert str(score) == "BLEU = 25.45 [24.10, 26.80] (nrefs:1|case:mixed)"
    assert str(Score("BLEU", 25.449, None, None, "nrefs:1")) == "BLEU = 25.45 (nrefs:1)"
    fields = {"name": "BLEU", "value": 25.449, "low": 24.1, "high": 26.8, "signature": "nrefs:1|case:mixed"}
    assert json.loads(json.dumps(score.as_dict())) == fields


def test_own_signatures():
    [score] = corpus_scores(["a", "b"], [["a", "b"], [None, "c"]], ["token_accuracy"], bootstrap=50, seed=7)
    assert score.signature == "nrefs:var|bs:50|seed:7|case:mixed|tok:space|avg:corpus"
    [score] = corpus_scores(["a"], [["a"]], ["exact_match"], bootstrap=0, lowercase=True)
    assert score.signature == "nrefs:1|case:lc|tok:line|avg:corpus"
    [score] = corpus_scores(["a"], [["a"]], ["rouge1"], bootstrap=0)
    assert score.signature.startswith("nrefs:1|case:lc|tok:script|avg:examples|rouge:")


def test_every_metric_scores_a_perfect_output_in_the_order_asked():
    # The CIDEr-D of a perfect output depends on how rare its words are.
    metrics = [metric for metric in METRICS if metric not in {*WITHOUT_REFERENCES, "cider"}]
    scores = corpus_scores(FIRST, [FIRST], metrics, bootstrap=40)
    for metric, score in zip(metrics, scores, strict=True):
        perfect = 0.0 if metric in LOWER_IS_BETTER else 100.0
        assert (score.value, score.low, score.high) == pytest.approx((perfect,) * 3), metric
        assert score.name.lower().replace("-", "").startswith(metric.lower())


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"metrics": ["bluu"]}, "did you mean 'bleu'"),
        ({"metrics": ["ROUGE-L"]}, "did you mean 'rougeL'"),
        ({"metrics": ["?"]}, "choose one"),
        ({"metrics": []}, "metrics: must have at least one metric, for example bleu, got none"),
        ({"metrics": ["bleu"], "tokenize": "13"}, "did you mean '13a'"),
        ({"metrics": ["ter"], "tokenize": "?"}, "tokenize '.' is unknown; choose one"),
        ({"metrics": ["bleu"], "bootstrap": 10}, "must be at least 40 for a 95 % interval, got 10"),
        ({"metrics": ["bleu"], "bootstrap": -1}, "must be at least 40 for a 95 % interval, got -1"),
        ({"metrics": ["bleu"], "seed": -1}, "seed: must be at least 0, got -1"),
    ],
)
def test_bad_options_are_refused(options, reason):
    with pytest.raises(UserError, match=reason):
        corpus_scores(["a"], [["a"]], **options)


def test_tokenizer_that_is_not_installed_is_a_user_error(monkeypatch):
    def missing(name: str):
        raise ImportError("\n\npip install it\n")

    monkeypatch.setattr("sacrebleu.metrics.bleu._get_tokenizer", missing)
    with pytest.raises(UserError, match="tokenize 'ja-mecab' is not available: pip install it"):
        corpus_scores(["a"], [["a"]], ["bleu"], tokenize="ja-mecab")


def test_perplexity():
    assert perplexity(-4 * math.log(8), 4) == pytest.approx(8.0)
    assert perplexity(1e-7, 10) == pytest.approx(1.0)
    assert perplexity(-1e6, 1) == math.inf
    with pytest.raises(UserError, match="at least one token"):
        perplexity(-1.0, 0)
    with pytest.raises(UserError, match="opposite sign"):
        perplexity(3.0, 4)


def test_importing_loads_no_scoring_library():
    modules = "scores, compare, references, rouge, recognition"
    code = f"import sys, tfseq2seq.inference.subtitles; from tfseq2seq.evaluation import {modules}; print(*sys.modules)"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "sacrebleu", "rouge_score", "jiwer", "tensorflow", "keras"} & set(loaded.split())
