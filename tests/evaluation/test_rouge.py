"""The ROUGE tokenizer, and ROUGE through `corpus_scores`."""

import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize as default_tokenize

from tfseq2seq.evaluation.rouge import ScriptTokenizer
from tfseq2seq.evaluation.scores import corpus_scores

ENGLISH = "The quick-brown FOX, aged 3.5, didn't jump_over \tthe lazy dog's (very) long tail!"


def test_ascii_tokens_are_those_of_rouge_score():
    every_ascii_character = "".join(f"a{chr(code)}B" for code in range(128))
    for text in (ENGLISH, every_ascii_character, "", " -- "):
        assert ScriptTokenizer().tokenize(text) == default_tokenize(text, None)


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("我爱 GPT-4！", ["我", "爱", "gpt", "4"]),
        ("東京タワーへ、行く。", list("東京タワーへ行く")),
        ("한국어 문장", ["한국어", "문장"]),
        ("Élan; cafe\u0301, ТЕСТ", ["élan", "café", "тест"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("\U00020000\U0002a6d6", ["\U00020000", "\U0002a6d6"]),
    ],
)
def test_tokens_of_other_scripts(text, tokens):
    assert ScriptTokenizer().tokenize(text) == tokens


@pytest.mark.parametrize("metric", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_score_on_ascii_and_takes_the_best_reference(metric):
    hypotheses = [ENGLISH, "A dog jumped over a fox.", "nothing alike"]
    references = [
        ["The quick brown fox didn't jump.", "A lazy dog jumped.", "other words"],
        ["The lazy dog has a long tail", "The dog jumped over the fox", None],
    ]
    library = RougeScorer([metric])
    expected = [
        max(library.score(answers[i], hypothesis)[metric].fmeasure for answers in references if answers[i])
        for i, hypothesis in enumerate(hypotheses)
    ]
    [score] = corpus_scores(hypotheses, references, [metric], bootstrap=0)
    assert score.value == pytest.approx(100 * sum(expected) / 3)


def test_rouge_counts_chinese_characters():
    # 3 of 4 characters of each side are common, 1 of 3 bigrams, and the common subsequence is 3 long.
    scores = corpus_scores(["我爱北京"], [["我很爱京"]], ["rouge1", "rouge2", "rougeL"], bootstrap=0)
    assert [score.value for score in scores] == pytest.approx([75.0, 0.0, 75.0])
    [bigrams] = corpus_scores(["我爱北京"], [["他爱北方"]], ["rouge2"], bootstrap=0)
    assert bigrams.value == pytest.approx(100 / 3)
