"""The lead baseline, novel n-grams, and their lines of `tfseq2seq evaluate`."""

import json

import pytest
from click.testing import CliRunner

from tfseq2seq.cli import commands
from tfseq2seq.evaluation.rouge import ScriptTokenizer
from tfseq2seq.evaluation.summaries import lead, novel_share, summary_scores


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("One. Two! Three? Four", 2, "One. Two!"),
        ("One. Two", 5, "One. Two"),
        ("It is 3.5 m long, e.g., here. Next.", 1, "It is 3.5 m long, e.g., here."),
        ('He said "no." She left.', 1, 'He said "no."'),
        ("今天下雨。明天呢？不知道", 2, "今天下雨。明天呢？"),
        ("他说：“好。”然后走了。", 1, "他说：“好。”"),
        ("本文提出方法.实验表明有效.", 1, "本文提出方法."),
        ("", 1, ""),
    ],
)
def test_the_lead_is_the_first_sentences(text, count, expected):
    assert lead(text, count) == expected


def test_novel_ngrams_are_those_that_the_source_lacks():
    tokenize = ScriptTokenizer().tokenize
    outputs = [tokenize(text) for text in ("The cat sat down", "猫坐下")]
    sources = [tokenize(text) for text in ("a cat sat on the mat", "猫在这里坐下")]
    # Of 7 tokens "down" is new; of 5 bigrams "the cat", "sat down" and 猫坐 are.
    assert novel_share(outputs, sources, 1) == pytest.approx(100 / 7)
    assert novel_share(outputs, sources, 2) == pytest.approx(60.0)
    assert novel_share([["a"]], [["b"]], 2) == 0.0


def test_a_blank_reference_is_missing_in_the_shares_as_in_the_scores():
    found = summary_scores(["a b"], ["a b"], [[" "], ["c d"]], ["rouge1"], 1, bootstrap=0)
    assert {one.name: one.value for one in found}["novel 1-grams of first references"] == 100.0


@pytest.fixture
def files(tmp_path):
    lines = {
        "source": ["First. Second.", "Big news today. More."],
        "outputs": ["First.", "Big news"],
        "one": ["First.", "other words"],
        "two": ["Second.", "Big news today."],
    }
    for name, texts in lines.items():
        (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
    return {name: str(tmp_path / name) for name in lines}


def test_the_baseline_is_printed_beside_the_scores_with_the_best_of_several_references(files):
    command = ["evaluate", "--hypotheses", files["outputs"], "--reference", files["one"], "--reference", files["two"]]
    command += ["--metric", "rouge1", "--bootstrap", "0", "--json"]
    found = CliRunner().invoke(commands, [*command, "--source", files["source"], "--lead", "1"])
    assert found.exit_code == 0, found.output
    values = {one["name"]: one["value"] for one in json.loads(found.output)}
    assert values["rouge1"] == pytest.approx(90.0) and values["lead-1 rouge1"] == pytest.approx(100.0)
    assert values["novel 1-grams of outputs"] == 0.0
    # "other words" has two new words of three in the first references.
    assert values["novel 1-grams of first references"] == pytest.approx(200 / 3)


def test_the_baseline_needs_the_sources(files):
    command = ["evaluate", "--hypotheses", files["outputs"], "--reference", files["one"], "--lead", "3"]
    found = CliRunner().invoke(commands, command)
    assert found.exit_code and "--lead: needs --source" in str(found.exception)
