"""Transcripts with times in the formats that others read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from tfseq2seq.inference.subtitles import Word, group_words, to_srt, to_webvtt
from tfseq2seq.inference.word_times import Transcriber, Transcript


def moved(transcript: Transcript, seconds: float) -> Transcript:
    """The transcript of a stretch of a recording, with the times that its words have in the whole."""
    words = [dataclasses.replace(word, start=word.start + seconds, end=word.end + seconds) for word in transcript.words]
    return dataclasses.replace(transcript, words=words)


def as_json_line(path: str, transcript: Transcript) -> str:
    """A JSON object in one line: path, text, score, and the words with start and end in seconds."""
    words = [{"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)} for word in transcript.words]
    fields = {"path": path, "text": transcript.text, "score": round(transcript.score, 6), "words": words}
    return json.dumps(fields, ensure_ascii=False)


def as_subtitles(words: Sequence[Word], kind: str, transcriber: Transcriber) -> str:
    """SubRip (kind "srt") or WebVTT ("vtt") of the words of a recording, the model's rules applied to each cue."""
    cues = [dataclasses.replace(cue, text=transcriber.text_of(cue.words)) for cue in group_words(words)]
    return to_srt(cues) if kind == "srt" else to_webvtt(cues)
