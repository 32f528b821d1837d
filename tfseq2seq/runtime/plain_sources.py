"""Python values to the inputs of exported models, in plain Python: one class for each kind of source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.recipe import source_from_dict
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.runtime.plain_images import PlainImages
from tfseq2seq.runtime.plain_text import PlainText, load_side
from tfseq2seq.spec import PAD, AudioSpec, ImageSpec, NoSourceSpec, SourceSpec, TextSpec, lookup
from tfseq2seq.spec.limits import BYTES_PER_TOKEN, too_many_bytes, too_many_seconds, too_many_tokens


class PlainTokens:
    """Source text.

    Args:
        spec: of the source.
        text: its text features.
    """

    def __init__(self, spec: SourceSpec, text: PlainText):
        self.spec, self.text = spec, text

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: PlainText) -> PlainTokens:
        return cls(spec, load_side(folder, "source", config))

    def row(self, value: str) -> np.ndarray:
        """What the model reads of one value."""
        return np.array(self.text.encode(value), "int32")

    def is_nothing(self, row: np.ndarray) -> bool:
        """Whether a row holds nothing to read: <eos> stands alone."""
        return len(row) < 2

    def fault(self, most: int, value: str) -> str:
        """A message if a value is longer than `most` tokens with <eos>, or ""; 0 is no limit."""
        size = len(value.encode("utf-8"))
        if not most:
            return ""
        if size > BYTES_PER_TOKEN * most:
            return f"{size}".join(too_many_bytes(most))
        count = len(self.text.encode(value))
        return f"{count}".join(too_many_tokens(most)) if count > most else ""

    def packed(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Rows as the inputs of the model, by name."""
        return {"ids": padded_rows(rows, "int32")[0]}

    def string(self, value: str) -> dict[str, np.ndarray]:
        """One value as the input of a model of strings; empty where there is nothing to read."""
        text = self.text.normalize(value)
        return {"text": np.array([text], object)} if text else {}


class PlainPrompts(PlainTokens):
    """Prompts of a model without a source, which its target begins with."""

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: PlainText) -> PlainPrompts:
        return cls(spec, target)

    def row(self, value: str) -> np.ndarray:
        # The model is given at least one column.
        return np.array(self.text.encode(value)[:-1] or [PAD], "int32")

    def is_nothing(self, row: np.ndarray) -> bool:
        return False

    def string(self, value: str) -> dict[str, np.ndarray]:
        return {"text": np.array([self.text.normalize(value)], object)}


class PlainSamples:
    """Recordings as samples at the model's rate."""

    def __init__(self, spec: Any):
        self.spec = spec

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: PlainText) -> PlainSamples:
        return cls(spec)

    def row(self, value: Any) -> np.ndarray:
        return np.asarray(value, "float32")

    def is_nothing(self, row: np.ndarray) -> bool:
        return not len(row)

    def fault(self, most: int, value: Any) -> str:
        """A message if a recording is longer than `most` seconds, or ""; 0 is no limit."""
        if not most or len(value) <= most * self.spec.sample_rate:
            return ""
        return f"{len(value) / self.spec.sample_rate:.1f}".join(too_many_seconds(most))

    def packed(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(("audio", "length"), padded_rows(rows, "float32"), strict=True))

    def string(self, value: Any) -> dict[str, np.ndarray]:
        row = self.row(value)
        return self.packed([row]) if len(row) else {}


PlainSource = PlainTokens | PlainSamples | PlainImages


class Limited:
    """Base of exported models with a `config` and a `source`: which inputs they do not answer."""

    config: dict[str, Any]
    source: Any

    def faults(self, inputs: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the inputs that are longer than the model answers; a model of earlier has no limit."""
        most = self.config["search"].get("max_input", 0)
        found = ((index, self.source.fault(most, one)) for index, one in enumerate(inputs))
        return [(index, message) for index, message in found if message]

    def check(self, inputs: Sequence[Any]) -> None:
        """Raises `UserError` for the first of `faults`."""
        for index, message in self.faults(inputs):
            raise UserError(f"input {index + 1}: {message}")


PLAIN_SOURCES: dict[type, Any] = {
    NoSourceSpec: PlainPrompts,
    TextSpec: PlainTokens,
    AudioSpec: PlainSamples,
    ImageSpec: PlainImages,
}


def load_source(folder: Path, config: dict[str, Any], target: PlainText) -> PlainSource:
    """The source of an exported model, from its config and its files.

    Raises:
        UserError: a file is missing or damaged.
        KeyError: the config lacks the source.
    """
    spec = source_from_dict(config["audio"] if "audio" in config else config["source"])
    found: PlainSource = lookup(PLAIN_SOURCES, spec).load(spec, folder, config, target)
    return found
