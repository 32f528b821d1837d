"""Modalities: one object for each kind of source. `SOURCES` is the one place that asks which it is.

Every module of this package is imported here, so that a new one is found without a line of its own.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from tfseq2seq.sources.audio import AudioSource
from tfseq2seq.sources.base import SOURCES, Corpora, Filtering, Report, Source, SourceInputs
from tfseq2seq.sources.text import NoSource, TextSource
from tfseq2seq.spec import lookup

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def source_class(spec: Any) -> type[Source]:
    """The class of sources for a spec."""
    return lookup(SOURCES, spec)


__all__ = [
    "SOURCES",
    "AudioSource",
    "Corpora",
    "Filtering",
    "NoSource",
    "Report",
    "Source",
    "SourceInputs",
    "TextSource",
    "source_class",
]
