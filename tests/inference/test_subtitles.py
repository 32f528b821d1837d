"""Subtitles: how words are grouped, and what a parser reads back from what was written."""

import html
import json
import random
import re

import pytest

from tfseq2seq.errors import UserError
from tfseq2seq.inference.subtitles import Cue, Word, group_words, to_json, to_srt, to_webvtt

HOUR = 3_600_000
TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)%s(\d{3})"


def milliseconds(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
    return int(hours) * HOUR + int(minutes) * 60_000 + int(seconds) * 1000 + int(thousandths)


def parse(blocks: list[str], point: str) -> list[tuple[int, int, str]]:
    pattern = re.compile(f"{TIME % point} --> {TIME % point}\n(.+)")
    matches = [pattern.fullmatch(block) for block in blocks]
    assert all(matches), blocks
    return [(milliseconds(*m.groups()[:4]), milliseconds(*m.groups()[4:8]), m.group(9)) for m in matches if m]


def parse_srt(text: str) -> list[tuple[int, int, str]]:
    assert not text or (text.endswith("\n") and not text.endswith("\n\n"))
    blocks = [block.split("\n", 1) for block in text[:-1].split("\n\n")] if text else []
    assert [number for number, _ in blocks] == [str(i + 1) for i in range(len(blocks))]
    return parse([block for _, block in blocks], ",")


def parse_webvtt(text: str) -> list[tuple[int, int, str]]:
    header, *blocks = text[:-1].split("\n\n")
    assert header == "WEBVTT"
    cues = parse(blocks, r"\.")
    assert not any(re.search("[<>]|&(?!amp;|lt;|gt;)", shown) for _, _, shown in cues)
    return [(start, end, html.unescape(shown)) for start, end, shown in cues]


def spaced(text: str, step: float = 0.5) -> list[Word]:
    """Words one after the other, `step` seconds each, without a pause."""
    return [Word(token, i * step, (i + 1) * step) for i, token in enumerate(text.split())]


def texts(words: list[Word], **limits) -> list[str]:
    return [cue.text for cue in group_words(words, **limits)]


# ---- grouping -------------------------------------------------------------------------------------------------------


def test_a_pause_ends_a_cue():
    words = [Word("a", 0.0, 0.5), Word("b", 1.25, 1.5), Word("c", 2.5, 3.0)]
    assert group_words(words) == [Cue("a b", 0.0, 1.5, tuple(words[:2])), Cue("c", 2.5, 3.0, (words[2],))]
    assert texts(words, pause=0.75) == ["a", "b", "c"]
    assert texts(words, pause=1.01) == ["a b c"]


def test_the_end_of_a_sentence_ends_a_cue():
    assert texts(spaced('He said: "Go!" Then 3.5 (or so.) Why? Well... yes')) == [
        'He said: "Go!"',
        "Then 3.5 (or so.)",
        "Why?",
        "Well...",
        "yes",
    ]
    assert texts(spaced("你 好 。 我 来 了 ！ 」 好")) == ["你好。", "我来了！」", "好"]


def test_cues_are_as_long_as_allowed_and_no_longer():
    assert texts(spaced("aaa bbb ccc d"), max_characters=7) == ["aaa bbb", "ccc d"]
    assert texts(spaced("aaa bbb ccc d"), max_characters=6) == ["aaa", "bbb", "ccc d"]
    assert texts(spaced("a b c d e"), max_seconds=1.0) == ["a b", "c d", "e"]
    assert texts(spaced("a extraordinarily b"), max_characters=5) == ["a", "extraordinarily", "b"]
    assert texts([Word("a", 0, 1), Word("b", 1, 9), Word("c", 9, 10)], max_seconds=2.0) == ["a", "b", "c"]


def test_random_words_are_all_kept_within_the_limits():
    generator = random.Random(0)
    words, now = [], 0.0
    for _ in range(500):
        now += generator.choice((0.0, 0.1, 1.0))
        end = now + generator.uniform(0.0, 0.9)
        words.append(Word("x" * generator.randint(1, 12) + generator.choice(("", "", ".")), now, end))
        now = end
    cues = group_words(words, max_characters=20, max_seconds=3.0, pause=0.5)
    assert [word for cue in cues for word in cue.words] == words
    for cue in cues:
        assert len(cue.text) <= 20 and cue.end - cue.start <= 3.0
        assert cue.text.split() == [word.text for word in cue.words]
    for cue, after in zip(cues, cues[1:], strict=False):
        together = len(cue.text) + 1 + len(after.words[0].text)
        gap, seconds = after.start - cue.end, after.words[0].end - cue.start
        assert cue.text.endswith(".") or gap >= 0.5 or together > 20 or seconds > 3.0, "split without a reason"


def test_spaces_are_those_of_the_script():
    assert texts(spaced("我 爱 TensorFlow 和 Keras ， 对")) == ["我爱 TensorFlow 和 Keras，对"]
    assert texts(spaced("안녕 하세요 여러분")) == ["안녕 하세요 여러분"]
    assert texts([Word(" a\n", 0, 1), Word(" ", 1, 2), Word("", 1, 2), Word("b c", 2, 3)], pause=5) == ["a b c"]
    assert group_words([]) == []


def test_overlapping_words_give_the_cue_its_latest_end():
    [cue] = group_words([Word("a", 0.0, 2.0), Word("b", 0.5, 1.0)])
    assert (cue.start, cue.end) == (0.0, 2.0)


# ---- writing --------------------------------------------------------------------------------------------------------

CUES = [Cue("one", 0.0, 1.2346), Cue("two & <b>three</b> --> x", 1.5, 2.0), Cue("四", 3725.0006, 3726.9996)]


def test_files_are_as_written_by_hand():
    assert to_srt(CUES) == (
        "1\n00:00:00,000 --> 00:00:01,235\none\n\n"
        "2\n00:00:01,500 --> 00:00:02,000\ntwo & <b>three</b> → x\n\n"
        "3\n01:02:05,001 --> 01:02:07,000\n四\n"
    )
    assert to_webvtt(CUES) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.235\none\n\n"
        "00:00:01.500 --> 00:00:02.000\ntwo &amp; &lt;b&gt;three&lt;/b&gt; --&gt; x\n\n"
        "01:02:05.001 --> 01:02:07.000\n四\n"
    )
    assert (to_srt([]), to_webvtt([]), to_json([])) == ("", "WEBVTT\n", "[]")


def test_json_has_times_in_seconds_and_keeps_text():
    words = (Word("a", 0.1, 0.20049), Word("b\n<", 0.3, 0.4))
    cues = [Cue("a b\n<", 0.1, 0.4, words), Cue("é", 1.0, 2.0)]
    told = [{"text": "a", "start": 0.1, "end": 0.2}, {"text": "b\n<", "start": 0.3, "end": 0.4}]
    assert json.loads(to_json(words)) == told
    assert json.loads(to_json(cues)) == [
        {"text": "a b\n<", "start": 0.1, "end": 0.4, "words": told},
        {"text": "é", "start": 1.0, "end": 2.0},
    ]
    assert "é" in to_json(cues)


def test_a_hundred_hours_have_three_digits():
    cues = [Cue("late", 99 * 3600 + 3599.9996, 360_001.0), Cue("later", 1_000 * 3600.0, 1_000 * 3600 + 1.0)]
    expected = [(100 * HOUR, 100 * HOUR + 1000, "late"), (1000 * HOUR, 1000 * HOUR + 1000, "later")]
    assert "\n100:00:00,000 --> 100:00:01,000\n" in to_srt(cues)
    assert parse_srt(to_srt(cues)) == parse_webvtt(to_webvtt(cues)) == expected


@pytest.mark.parametrize(
    "text, srt, webvtt",
    [
        ("a\n\n2\r\n00:00 --> b", "a 2 00:00 → b", "a 2 00:00 --> b"),
        ("---->-->", "--→→", "---->-->"),
        ("a\u2028b\x0bc\x00d\x1b", "a b cd", "a b cd"),
        ("&amp; <i>", "&amp; <i>", "&amp; <i>"),
        ("WEBVTT", "WEBVTT", "WEBVTT"),
        ("7", "7", "7"),
    ],
)
def test_text_cannot_break_the_format(text, srt, webvtt):
    cues = [Cue("before", 0, 1), Cue(text, 1, 2), Cue("after", 2, 3)]
    assert parse_srt(to_srt(cues)) == [(0, 1000, "before"), (1000, 2000, srt), (2000, 3000, "after")]
    assert parse_webvtt(to_webvtt(cues)) == [(0, 1000, "before"), (1000, 2000, webvtt), (2000, 3000, "after")]


def test_cues_without_text_are_left_out():
    cues = [Cue(" \n", 0, 1), Cue("\x00", 1, 2), Cue("a", 2, 3)]
    assert parse_srt(to_srt(cues)) == parse_webvtt(to_webvtt(cues)) == [(2000, 3000, "a")]


def test_times_are_put_right():
    cues = [Cue("c", 2.0, 2.0), Cue("a", -0.5, 1.5), Cue("b", 1.0, 9.0), Cue("d", 2.0001, 2.0002)]
    expected = [(0, 1000, "a"), (1000, 2000, "b"), (2000, 2001, "c"), (2001, 2002, "d")]
    assert parse_srt(to_srt(cues)) == parse_webvtt(to_webvtt(cues)) == expected
    assert [(one["start"], one["end"]) for one in json.loads(to_json(cues))] == [
        (start / 1000, end / 1000) for start, end, _ in expected
    ]


def test_random_times_never_overlap():
    generator = random.Random(1)
    starts = [generator.choice((generator.uniform(-1, 3), generator.randint(0, 3))) for _ in range(300)]
    cues = [
        Cue(str(i), start, start + generator.choice((0, generator.uniform(0, 1)))) for i, start in enumerate(starts)
    ]
    times = parse_srt(to_srt(cues))
    assert times == parse_webvtt(to_webvtt(cues)) and len(times) == 300
    assert times[0][0] >= 0 and all(start < end for start, end, _ in times)
    assert all(before[1] <= after[0] for before, after in zip(times, times[1:], strict=False))


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, limits, reason",
    [
        ([Word("a", 1.0, 0.5)], {}, r"word 1 \('a'\) ends at 0.5 s, before its start"),
        ([Word("a", 0, 1), Word("b", 0, float("nan"))], {}, r"word 2 \('b'\) .* must be finite"),
        ([Word("a", 3, 4), Word("b", 1, 2)], {}, r"word 2 \('b'\) starts at 1 s, before word 1"),
        ([], {"max_characters": 0}, "max_characters: 0"),
        ([], {"max_seconds": -1.0}, "max_seconds: -1.0"),
        ([], {"pause": float("nan")}, "pause: nan"),
    ],
)
def test_bad_words_are_refused(words, limits, reason):
    with pytest.raises(UserError, match=reason):
        group_words(words, **limits)


@pytest.mark.parametrize("write", [to_srt, to_webvtt, to_json])
def test_bad_times_are_refused(write):
    with pytest.raises(UserError, match=r"cue 2 \('b'\) ends at 1"):
        write([Cue("a", 0, 1), Cue("b", 2, 1)])
    with pytest.raises(UserError, match="must be finite"):
        write([Cue("a", 0, float("inf"))])
