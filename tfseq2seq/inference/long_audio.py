"""Recordings of any length: overlapping windows, each transcribed by itself, joined by the times of their words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.inference.subtitles import Word
from tfseq2seq.inference.word_times import Transcriber, Transcript
from tfseq2seq.spec import SearchSpec

# `search.max_length` tokens are for so many seconds of a longer window. In 5 s people say no more than 128 letters.
SECONDS_OF_MAX_LENGTH = 5.0


def window_search(search: SearchSpec, window: float, positions: int = 0) -> SearchSpec:
    """The search in windows of so many seconds: `max_length` grows with the window, up to the positions of the decoder.

    The limit is set for recordings as long as those of the corpus, and keeps a decoder that repeats itself from going
    on forever. In a window that is several times as long, several times as much is said.
    """
    times = max(window / SECONDS_OF_MAX_LENGTH, 1.0)
    longest = math.ceil(search.max_length * times)
    return dataclasses.replace(search, max_length=min(longest, positions) if positions else longest)


def transcribe_long(
    transcriber: Transcriber, recordings: Sequence[np.ndarray], window: float, overlap: float
) -> list[Transcript]:
    """Transcripts of recordings, those longer than a window by windows.

    Of two windows that overlap, the first one's words count up to the middle of what they share and the second one's
    from there on: near its edge a window hears words half. A word that both have across the middle comes once.

    Args:
        transcriber: what to ask, with the search of `window_search`.
        recordings: samples [N] at the model's rate.
        window: seconds, as long as what the model was trained on.
        overlap: seconds that neighboring windows share, at least as long as the longest word.

    Raises:
        UserError: the overlap is not shorter than half a window.
    """
    if not 0 <= 2 * overlap < window:
        raise UserError(f"overlap: {overlap} s must be shorter than half a window ({window} s)")
    rate = transcriber.rate
    size, step = round(window * rate), round((window - overlap) * rate)
    begins = [range(0, max(len(samples) - size, 0) + step, step) for samples in recordings]
    pieces = [samples[at : at + size] for samples, own in zip(recordings, begins, strict=True) for at in own]
    transcripts = iter(transcriber.transcribe(pieces))
    found: list[Transcript] = []
    for own in begins:
        parts = [(at / rate, next(transcripts)) for at in own]
        found.append(parts[0][1] if len(parts) == 1 else _joined(transcriber, parts, window, overlap))
    return found


def _joined(
    transcriber: Transcriber, parts: Sequence[tuple[float, Transcript]], window: float, overlap: float
) -> Transcript:
    words: list[Word] = []
    for begin, part in parts:
        middle = begin + overlap / 2 if begin else 0.0
        words = [word for word in words if _center(word) < middle]
        moved = [Word(word.text, word.start + begin, word.end + begin) for word in part.words]
        moved = [word for word in moved if _center(word) >= middle]
        # Both windows may have the word that lies across the middle, each on its own side of it.
        if words and moved and words[-1].text == moved[0].text and moved[0].start < words[-1].end:
            moved = moved[1:]
        words += moved
    text = transcriber.text_of(words)
    cut = tuple(one for _, part in parts for one in part.cut)
    return Transcript(text, words, sum(part.score for _, part in parts), cut)


def _center(word: Word) -> float:
    return (word.start + word.end) / 2
