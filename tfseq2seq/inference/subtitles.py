"""Timed words to subtitles: SubRip (.srt), WebVTT (.vtt) and JSON, as strings.

cues = group_words([Word("good", 0.2, 0.5), Word("morning.", 0.55, 1.1), Word("Tea?", 2.4, 2.8)])
write_whole("talk.srt", to_srt(cues).encode("utf-8"))
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfseq2seq.errors import UserError

_SENTENCE_ENDS = ".!?\u2026\u3002\uff01\uff1f\uff0e"
# What may follow the end of a sentence and still belong to it: closing quotes and brackets.
_CLOSING = "\"')]}\u2019\u201d\u00bb\u300d\u300f\u3009\u300b\uff09\u3011"
# Straight quotes by themselves may as well open the next sentence.
_TRAILING = frozenset(_SENTENCE_ENDS + _CLOSING) - frozenset("\"'")


@dataclass(frozen=True)
class Word:
    """A word and its time.

    Attributes:
        text: The word, with its punctuation.
        start: In seconds from the beginning.
        end: In seconds, `start` or later.
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Cue:
    """What is shown at a time.

    Attributes:
        text: One line.
        start: In seconds from the beginning.
        end: In seconds, `start` or later.
        words: The words that it is made of, where they are known.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()


def group_words(
    words: Sequence[Word], max_characters: int = 42, max_seconds: float = 6.0, pause: float = 0.8
) -> list[Cue]:
    """Groups words into cues.

    A cue ends where the next word begins `pause` seconds or more after the last one ended, at the end of a sentence,
    and where the next word would make the cue too long in characters or seconds. A word that is too long by itself is a
    cue of its own. Words without text are left out. Between words stands a space, but none between Chinese or Japanese
    characters.

    Args:
        words: In the order of their starts. They may overlap.
        max_characters: The most characters in a cue, spaces included. 42 is usual for Latin script, 16 for Chinese.
        max_seconds: The longest time from the start of a cue's first word to the end of its last.
        pause: The shortest silence that ends a cue, in seconds.

    Returns:
        The cues, each with the times of its first and last word.

    Raises:
        UserError: A limit is not above 0, or a word's times are not finite, not in order, or end before they start.
    """
    for name, limit in (("max_characters", max_characters), ("max_seconds", max_seconds), ("pause", pause)):
        if not limit > 0:
            raise UserError(f"{name}: {limit} is not above 0; give more")
    _check_times("word", words)
    for number, (before, after) in enumerate(zip(words, words[1:], strict=False), start=2):
        if after.start < before.start:
            raise UserError(
                f"word {number} ({after.text!r}) starts at {after.start} s, before word {number - 1} at "
                f"{before.start} s; give words in the order of their starts"
            )
    groups: list[list[Word]] = []
    text, end = "", 0.0
    for word in words:
        token = _one_line(word.text)
        if not token:
            continue
        joined = _joined(text, token)
        if (
            groups
            and word.start - end < pause
            and not _sentence_between(text, token)
            and len(joined) <= max_characters
            and max(end, word.end) - groups[-1][0].start <= max_seconds
        ):
            groups[-1].append(word)
            text, end = joined, max(end, word.end)
        else:
            groups.append([word])
            text, end = token, word.end
    return [_cue(group) for group in groups]


def joined_text(words: Sequence[Word]) -> str:
    """The words as one line, with a space between them but between Chinese or Japanese characters."""
    text = ""
    for word in words:
        text = _joined(text, _one_line(word.text))
    return text


def to_srt(cues: Sequence[Cue]) -> str:
    """SubRip text: numbered cues, `HH:MM:SS,mmm`; from 100 hours on the hours have three digits.

    Cues come in the order of their starts, those without text are left out. Times are rounded to milliseconds and put
    right where they must be: none below 0, no cue longer than until the next one, each at least 1 ms long. A cue is one
    line. SubRip has no escapes, so that "-->" inside text becomes an arrow, and players take `<i>` for a style.

    Raises:
        UserError: A time is not finite, or a cue ends before it starts.
    """
    blocks = []
    for number, (cue, start, end) in enumerate(_timed_cues(cues), start=1):
        # The arrow is the one thing besides an empty line that a parser splits at.
        text = _one_line(cue.text).replace("-->", "\u2192")
        blocks.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def to_webvtt(cues: Sequence[Cue]) -> str:
    """WebVTT text (W3C), with times and order as in `to_srt`; `&`, `<` and `>` are escaped.

    Raises:
        UserError: As `to_srt`.
    """
    blocks = ["WEBVTT\n"]
    for cue, start, end in _timed_cues(cues):
        text = _one_line(cue.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def to_json(timed: Sequence[Word | Cue]) -> str:
    """A JSON list of objects with text, start and end, and words, a like list, for cues that have them.

    Times are in seconds, to the millisecond, with order and corrections as in `to_srt`. The text is kept as it is.

    Raises:
        UserError: As `to_srt`.
    """
    return json.dumps(_objects(timed), ensure_ascii=False, indent=1)


def _objects(timed: Sequence[Word | Cue]) -> list[dict[str, Any]]:
    found = []
    for one, start, end in _timed("cue" if timed and isinstance(timed[0], Cue) else "word", timed):
        fields: dict[str, Any] = {"text": one.text, "start": start / 1000, "end": end / 1000}
        if isinstance(one, Cue) and one.words:
            fields["words"] = _objects(one.words)
        found.append(fields)
    return found


def _timed_cues(cues: Sequence[Cue]) -> list[tuple[Cue, int, int]]:
    _check_times("cue", cues)
    # A cue without a line of text would run into the next one.
    return _timed("cue", [cue for cue in cues if _one_line(cue.text)])


def _timed(kind: str, timed: Sequence[Any]) -> list[tuple[Any, int, int]]:
    """Words or cues in the order of their starts, with milliseconds that neither overlap nor are empty."""
    _check_times(kind, timed)
    ordered = sorted(timed, key=lambda one: one.start)
    starts: list[int] = []
    for one in ordered:
        starts.append(max(0, round(1000 * one.start), starts[-1] + 1 if starts else 0))
    found = []
    for index, (one, start) in enumerate(zip(ordered, starts, strict=True)):
        end = max(start + 1, round(1000 * one.end))
        found.append((one, start, min(end, starts[index + 1]) if index + 1 < len(starts) else end))
    return found


def _check_times(kind: str, timed: Sequence[Word | Cue]) -> None:
    for number, one in enumerate(timed, start=1):
        if not (math.isfinite(one.start) and math.isfinite(one.end)):
            raise UserError(f"{kind} {number} ({one.text!r}) is at {one.start} to {one.end} s; times must be finite")
        if one.end < one.start:
            raise UserError(f"{kind} {number} ({one.text!r}) ends at {one.end} s, before its start at {one.start} s")


def _cue(words: Sequence[Word]) -> Cue:
    return Cue(joined_text(words), words[0].start, max(word.end for word in words), tuple(words))


def _sentence_between(text: str, token: str) -> bool:
    """Whether a sentence ends with `text`, and not only with `token`, as punctuation can be a word of its own."""
    return text.rstrip(_CLOSING).endswith(tuple(_SENTENCE_ENDS)) and not _TRAILING.issuperset(token)


def _joined(text: str, token: str) -> str:
    if not text:
        return token
    sides = (text[-1], token[0])
    close = all(map(unspaced, sides)) or any(_wide(side) and unicodedata.category(side)[0] == "P" for side in sides)
    return text + token if close else f"{text} {token}"


def unspaced(character: str) -> bool:
    """Whether it is of a script written without spaces. Hangul is as wide, but Korean has spaces."""
    return _wide(character) and not unicodedata.name(character, "").startswith("HANGUL")


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


def _one_line(text: str) -> str:
    """Text with any white space as one space, and without control characters, which no player expects."""
    kept = (character for character in text if character.isspace() or unicodedata.category(character) != "Cc")
    return " ".join("".join(kept).split())


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
