"""The report of errors: rows that align, the worst first, counts that agree with jiwer."""

import random
import re
import unicodedata

import jiwer
import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.recognition import alignment_report, real_time_factor


def columns(text: str) -> list[str]:
    """What a terminal shows in each column; the second column of a wide character is empty."""
    shown: list[str] = []
    for character in text:
        shown += [character, ""] if unicodedata.east_asian_width(character) in "WF" else [character]
    return shown


def blocks(report: str) -> list[list[str]]:
    return [block.split("\n") for block in report.rstrip("\n").split("\n\n")]


def test_report_by_hand():
    report = alignment_report(
        ["ok", "the hat by", "no way"], ["ok", "the cat sat on the", "no"], names=["a.wav", "b.wav", "c.wav"]
    )
    assert report == (
        "WER 71.43 %: 2 substitutions, 2 deletions, 1 insertion in 7 words; 2 of 3 utterances wrong\n"
        "\n"
        "b.wav: 4 errors in 5 words\n"
        "REF: the cat sat on the\n"
        "HYP: the hat by  ** ***\n"
        "         S   S   D  D\n"
        "\n"
        "c.wav: 1 error in 1 word\n"
        "REF: no ***\n"
        "HYP: no way\n"
        "        I\n"
        "\n"
        "most frequent substitutions, 2 different\n"
        "     1  cat -> hat\n"
        "     1  sat -> by\n"
        "\n"
        "most frequent deletions, 2 different\n"
        "     1  on\n"
        "     1  the\n"
        "\n"
        "most frequent insertions, 1 different\n"
        "     1  way\n"
    )


def test_worst_first_then_by_rate_then_in_order():
    references = ["a b c d", "a b", "a b c d e f", "a b", "a"]
    hypotheses = ["a b c x", "a x", "a b c x y z", "x b", "a"]
    found = re.findall(r"line (\d): (\d)", alignment_report(hypotheses, references))
    assert found == [("3", "3"), ("2", "1"), ("4", "1"), ("1", "1")]
    assert re.findall(r"line (\d):", alignment_report(hypotheses, references, worst=2)) == ["3", "2"]


def test_frequent_errors_come_by_number_then_by_letter():
    references = ["b a", "a b", "c", "a", "d e e"]
    hypotheses = ["x y", "y x", "c c", "y", "d"]
    report = alignment_report(hypotheses, references)
    assert "most frequent substitutions, 2 different\n     3  a -> y\n     2  b -> x\n" in report
    assert "most frequent deletions, 1 different\n     2  e\n" in report
    assert alignment_report(["x y"], ["a b"], worst=1).endswith("2 different\n     1  a -> x\n")


@pytest.mark.parametrize("unit, process", [("word", jiwer.process_words), ("character", jiwer.process_characters)])
def test_marks_stand_under_what_differs_in_any_script(unit, process):
    generator = random.Random(0)
    tokens = ["的", "北京", "a", "quick", "é", "ｘ", "한국", "पा"]
    texts = [" ".join(generator.choices(tokens, k=generator.randint(3, 9))) for _ in range(40)]
    references, hypotheses = texts[:20], texts[20:]
    report = alignment_report(hypotheses, references, worst=20, unit=unit)
    marks = ""
    for block in blocks(report)[1:]:
        if not block[0].startswith("line"):
            continue
        reference, hypothesis, marked = (columns(row[5:]) for row in (block[1], block[2], block[3].ljust(5)))
        marks += "".join(marked)
        for index, mark in enumerate(marked):
            left, right = reference[index], hypothesis[index]
            assert mark != "D" or right == "*", block
            assert mark != "I" or left == "*", block
            # A token begins here in both rows, not in the middle of a wide character.
            assert mark == " " or (left and right), block
    theirs = process(references, hypotheses)
    counted = {kind: marks.count(kind) for kind in "SDI"}
    assert counted == {"S": theirs.substitutions, "D": theirs.deletions, "I": theirs.insertions}
    assert min(counted.values()) > 0


def test_rows_of_wide_characters_by_hand():
    report = alignment_report(["我北京啊"], ["我爱北京"], unit="character")
    assert "REF: 我爱北京**\nHYP: 我**北京啊\n       D     I\n" in report
    report = alignment_report(["我 大学 x 去"], ["我 北京 大学 x"])
    assert "REF: 我 北京 大学 x **\nHYP: 我 **** 大学 x 去\n        D           I\n" in report
    # An accent written as a character of its own takes no column.
    report = alignment_report(["cafe\u0301 x"], ["cafe\u0301s y"])
    assert "REF: cafe\u0301s y\nHYP: cafe\u0301  x\n     S     S\n" in report


def test_long_rows_go_on_below():
    reference = " ".join(f"word{i:02d}" for i in range(40))
    report = alignment_report([reference.replace("word30", "other")], [reference])
    rows = report.split("\n")[3:12]
    assert max(map(len, rows)) <= 116
    assert " ".join(row[5:] for row in rows[0::3]) == reference
    marks = rows[2] + rows[5] + rows[8]
    assert marks.strip() == "S" and rows[8] == "S".rjust(rows[6].index("word30") + 1)


def test_what_does_not_print_is_spelled_out():
    report = alignment_report(["a\nc", "x"], ["a\tb", "x"], names=["one\ntwo", "x"], unit="character")
    assert "one\\ntwo: 2 errors" in report
    assert "REF: a\\tb\nHYP: a\\nc\n" in report
    assert "\\t -> \\n" in report


def test_all_right_and_all_empty():
    assert alignment_report(["a"], ["a"]) == (
        "WER 0.00 %: 0 substitutions, 0 deletions, 0 insertions in 1 word; 0 of 1 utterance wrong\n"
    )
    report = alignment_report(["b b"], [""])
    assert report.startswith("WER: 0 substitutions, 0 deletions, 2 insertions in 0 words; 1 of 1 utterance wrong\n")
    assert "line 1: 2 errors in 0 words\nREF: * *\nHYP: b b\n     I I\n" in report


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ((["a"], ["a", "b"]), "1 hypotheses, 2 references and 2 names"),
        ((["a"], ["a"], ["x", "y"]), "1 hypotheses, 1 references and 2 names"),
        (([], []), "hypotheses: must have at least one line, got none"),
        ((["a"], [None]), "references: line 1: expected a string, got NoneType"),
        ((["a"], ["a"], None, 0), "worst: must be at least 1, got 0"),
        ((["a"], ["a"], None, 1, "phone"), "unit: must be one of word, character, got 'phone'"),
    ],
)
def test_bad_input_is_refused(arguments, reason):
    with pytest.raises(UserError, match=reason):
        alignment_report(*arguments)


def test_real_time_factor_is_work_by_audio():
    assert real_time_factor(3600, 360) == 0.1
    assert real_time_factor(2.0, 3.0) == 1.5
    for audio, work in ((0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, -1), (1, float("nan"))):
        with pytest.raises(UserError, match="real-time factor"):
            real_time_factor(audio, work)
