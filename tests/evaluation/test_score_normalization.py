"""Normalization of outputs and references before they are scored."""

import unicodedata

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.compare import compare
from tfseq2seq.evaluation.scores import corpus_scores

COMPOSED = ["café au lait", "한국어 발음"]
APART = [unicodedata.normalize("NFD", text) for text in COMPOSED]


def score(outputs, references, metric, **settings):
    return corpus_scores(outputs, [references], [metric], bootstrap=0, **settings)[0]


def test_forms_of_unicode_differ_unless_they_are_normalized():
    assert score(APART, COMPOSED, "cer").value > 50
    for form in ("nfc", "nfkc"):
        found = score(APART, COMPOSED, "cer", normalize=form)
        assert found.value == 0 and found.signature.endswith(f"|norm:{form}")
    assert "norm" not in score(APART, COMPOSED, "cer").signature


def test_basic_leaves_words_alone():
    outputs, references = ["Hello, world! [noise]", "它 很 好 。"], ["hello world", "它 很 好"]
    assert score(outputs, references, "wer").value > 0
    assert score(outputs, references, "wer", normalize="basic").value == 0
    assert score(["good bye"], ["good buy"], "wer", normalize="basic").value == 50


def test_comparisons_normalize_too():
    found = compare(APART * 3, ["?"] * 6, [COMPOSED * 3], "exact_match", resamples=40, normalize="nfc")
    assert found.system.value == 100


def test_an_unknown_normalization_is_told():
    with pytest.raises(UserError, match="normalize: must be one of none, nfc, nfkc, basic, got 'nfx'"):
        score(["a"], ["a"], "cer", normalize="nfx")
