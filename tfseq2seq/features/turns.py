"""Turns of dialogues: lines of files and Python values to texts that say whose they are.

A turn is handed on as a text that can begin with a mark: U+001F and the number of its speaker, 0 for the one who
answers. Without marks two speakers take turns, and the last turn is of the other one. Contexts in datasets of strings
are texts with U+001E between them. Both characters are replaced in what people write, so that no text can spell them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfseq2seq.errors import UserError

TURN_END, SPEAKER_MARK = "\x1e", "\x1f"
# The numbers of speakers are single digits. The spec allows no more tokens than that.
_LAST_SPEAKER = 9

_JSON_LIST = re.compile(r'\s*\[\s*(["{\]]|$)')
_BARRED = re.compile("[\x1e\x1f\r\n]")


class Turn(NamedTuple):
    """A turn of a dialogue.

    Attributes:
        text: what is said.
        speaker: a name; "" if no speaker of the dialogue is named.
    """

    text: str
    speaker: str = ""


class Context(tuple[str, ...]):
    """The texts of the turns before an answer, with marks where speakers are named."""

    @classmethod
    def of(cls, value: Any) -> Context:
        """Returns the context of a Python value; see `turns_of`.

        Raises:
            UserError: as there.
        """
        return value if isinstance(value, Context) else marked(turns_of(value))


def parse_line(line: str, separator: str) -> list[Turn]:
    """Returns the turns of a line, which is a JSON list, or has a separator between turns.

    A separator at the end of the line ends the last turn. A line without text has no turn.

    Raises:
        UserError: the line begins as a JSON list and is none of turns. The message does not name the line.
    """
    if _JSON_LIST.match(line):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"not a JSON list of turns ({' '.join(str(error).split())})") from None
        return turns_of(values)
    texts = [text.strip() for text in line.split(separator)]
    if not texts[-1]:
        texts.pop()
    return [Turn(_clean(text)) for text in texts]


def turns_of(values: Any) -> list[Turn]:
    """Returns the turns of a Python value: a list of texts or of {"speaker": ..., "text": ...}, or a text alone.

    Raises:
        UserError: a turn is neither, or only some of the turns have a speaker.
    """
    if isinstance(values, str):
        values = [values] if values else []
    if not isinstance(values, Sequence):
        raise UserError(f"must be a list of turns, got {type(values).__name__}")
    turns = [_turn(value, number) for number, value in enumerate(values, start=1)]
    named = [bool(turn.speaker) for turn in turns]
    if any(named) and not all(named):
        raise UserError(f"turn {named.index(False) + 1}: must have a speaker, as other turns of the dialogue have one")
    return turns


def _turn(value: Any, number: int) -> Turn:
    if isinstance(value, Turn):
        return Turn(_clean(value.text), value.speaker)
    if isinstance(value, str):
        return Turn(_clean(value))
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise UserError(f'turn {number}: must be a text or an object with the key "text", got {_brief(value)}')
    if unknown := sorted(map(str, set(value) - {"text", "speaker"})):
        raise UserError(f"turn {number}: must have the keys speaker and text alone, got {unknown[0]!r}")
    speaker = value.get("speaker", "")
    if not isinstance(speaker, str) or ("speaker" in value and not speaker.strip()):
        raise UserError(f"turn {number}: the speaker must be a name, got {_brief(speaker)}")
    return Turn(_clean(value["text"]), speaker.strip())


def _brief(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _clean(text: str) -> str:
    return _BARRED.sub(" ", text)


def marked(turns: Sequence[Turn], answering: str | None = None) -> Context:
    """Returns the context that turns are.

    Args:
        turns: the context of an answer.
        answering: who answers. By default the last speaker before the one of the last turn, or somebody new.
    """
    if not turns or not turns[-1].speaker:
        return Context(turn.text for turn in turns)
    if answering is None:
        others = (turn.speaker for turn in reversed(turns) if turn.speaker != turns[-1].speaker)
        answering = next(others, "")
    numbers = {answering: 0}
    for turn in reversed(turns):
        numbers.setdefault(turn.speaker, min(len(numbers), _LAST_SPEAKER))
    return Context(f"{SPEAKER_MARK}{numbers[turn.speaker]}{turn.text}" for turn in turns)


def mark_and_text(turn: str) -> tuple[int | None, str]:
    """Splits a turn into the number of its speaker, None without a mark, and its text."""
    if turn[:1] == SPEAKER_MARK and turn[1:2] in set("0123456789"):
        return int(turn[1]), _clean(turn[2:])
    return None, _clean(turn)


def examples_of(turns: Sequence[Turn], history: int) -> list[tuple[Context, str]]:
    """Returns an example for each turn after the first: the turns before it, at most `history` + 1, and its text.

    There is none for a turn without text, and none where all turns before it have no text.
    """
    examples = []
    for index in range(1, len(turns)):
        before, answer = turns[max(0, index - 1 - history) : index], turns[index]
        if answer.text.strip() and any(turn.text.strip() for turn in before):
            examples.append((marked(before, answer.speaker), answer.text))
    return examples
