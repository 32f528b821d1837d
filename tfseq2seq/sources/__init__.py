"""Modalities: one object for each kind of source. `SOURCES` is the one place that asks which it is."""

from __future__ import annotations

from typing import Any

from tfseq2seq.sources.audio import AudioSource
from tfseq2seq.sources.base import Corpora, Source, SourceInputs
from tfseq2seq.sources.text import NoSource, TextSource
from tfseq2seq.spec import AudioSpec, NoSourceSpec, TextSpec, lookup

SOURCES: dict[type, type[Source]] = {
    NoSourceSpec: NoSource,
    TextSpec: TextSource,
    AudioSpec: AudioSource,
}


def source_class(spec: Any) -> type[Source]:
    """The class of sources for a spec."""
    return lookup(SOURCES, spec)


__all__ = [
    "SOURCES",
    "AudioSource",
    "Corpora",
    "NoSource",
    "Source",
    "SourceInputs",
    "TextSource",
    "source_class",
]
