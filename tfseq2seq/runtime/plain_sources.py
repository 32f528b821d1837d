"""Python values to the inputs of exported models, in plain Python: one class for each kind of source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfseq2seq.errors import UserError
from tfseq2seq.features.turns import Context, mark_and_text
from tfseq2seq.recipe import source_from_dict
from tfseq2seq.runtime.padding import padded_rows
from tfseq2seq.runtime.plain_images import PlainImages
from tfseq2seq.runtime.plain_text import PlainText, load_side, load_text
from tfseq2seq.runtime.plain_videos import PlainVideos
from tfseq2seq.spec import (
    EOS,
    PAD,
    AudioSpec,
    DialogueSpec,
    ImageSpec,
    NoSourceSpec,
    SourceSpec,
    TextSpec,
    VideoSpec,
    lookup,
)
from tfseq2seq.spec.limits import (
    BYTES_PER_TOKEN,
    NO_TURN,
    cut_tokens,
    cut_turns,
    too_many_bytes,
    too_many_seconds,
    too_many_tokens,
)

# The inputs of a model that copies words that its vocabulary lacks, in the order of the columns of a row.
COPYING_INPUTS = ("ids", "copy_ids")


class PlainTokens:
    """Source text.

    Args:
        spec: of the source.
        text: its text features.
        target: the text features of the target, for a model that copies words that its vocabulary lacks.
    """

    def __init__(self, spec: SourceSpec, text: PlainText, target: PlainText | None = None):
        self.spec, self.text, self.target = spec, text, target

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: PlainText) -> PlainTokens:
        copies, text = "copy_ids" in config.get("inputs", ()), load_side(folder, "source", config)
        text.longest = config.get("truncate_source", 0)
        return cls(spec, text, target if copies else None)

    def row(self, value: str) -> np.ndarray:
        """What the model reads of one value: ids [S], or [S, 2] with the target ids of the words."""
        ids = np.array(self.text.encode(value), "int32")
        if self.target is None:
            return ids
        return np.stack([ids, np.array(self.target.copy_ids(self.text.words(value)), "int32")], axis=1)

    def copied_words(self, value: str) -> list[str]:
        """The words that ids behind the target vocabulary mean."""
        return [] if self.target is None else self.text.words(value)

    def is_nothing(self, row: np.ndarray) -> bool:
        """Whether a row holds nothing to read: <eos> stands alone."""
        return len(row) < 2

    def prompt_length(self, row: np.ndarray) -> int:
        """How many of the first tokens of an output come from the row."""
        return 0

    def fault(self, most: int, value: str) -> str:
        """A message if a value is longer than `most` tokens with <eos>, or ""; 0 is no limit."""
        size = len(value.encode("utf-8"))
        if not most:
            return ""
        if size > BYTES_PER_TOKEN * most:
            return f"{size}".join(too_many_bytes(most))
        count = len(self.text.encode(value)) + self.text.surplus(value)
        return f"{count}".join(too_many_tokens(most)) if count > most else ""

    def warning(self, value: Any) -> str:
        """A message if something of a value is not read, or ""."""
        surplus = self.text.surplus(value)
        return f"{surplus}".join(cut_tokens(self.text.longest)) if surplus else ""

    def packed(self, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Rows as the inputs of the model, by name."""
        if self.target is None:
            return {"ids": padded_rows(rows, "int32")[0]}
        return {name: padded_rows([row[:, at] for row in rows], "int32")[0] for at, name in enumerate(COPYING_INPUTS)}

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

    def prompt_length(self, row: np.ndarray) -> int:
        return int(np.count_nonzero(row != PAD))

    def string(self, value: str) -> dict[str, np.ndarray]:
        return {"text": np.array([self.text.normalize(value)], object)}


class PlainDialogues(PlainTokens):
    """Dialogues, as lists of turns, of which the last one is answered.

    Args:
        spec: of the source.
        text: its text features.
        history: the number of turns that are read before the last one.
        most: the largest number of tokens of a context, with <eos>.
    """

    def __init__(self, spec: Any, text: PlainText, history: int, most: int):
        super().__init__(spec, text)
        self.history, self.most = history, most
        self._tags = [spec.reserved_id(token) for token in spec.speakers]

    @classmethod
    def load(cls, spec: Any, folder: Path, config: dict[str, Any], target: PlainText) -> PlainDialogues:
        return cls(spec, load_text(folder, "source", spec.text), config["history"], config["max_source_length"])

    def row(self, value: Any) -> np.ndarray:
        ids, _ = self._context(value)
        return np.array([*ids, EOS], "int32")

    def fault(self, most: int, value: Any) -> str:
        turns = Context.of(value)
        text = mark_and_text(turns[-1])[1] if turns else ""
        size = len(text.encode("utf-8"))
        if most and size > BYTES_PER_TOKEN * most:
            return f"{size}".join(too_many_bytes(most))
        if not self._context(value)[0]:
            return NO_TURN
        # With the speaker's token and <eos>.
        count = len(self.text.encode(text)) + 1
        return f"{count}".join(too_many_tokens(most)) if most and count > most else ""

    def warning(self, value: Any) -> str:
        """A message if turns were cut, or ""."""
        cut = self._context(value)[1]
        return f"{cut}".join(cut_turns(self.most)) if cut else ""

    def string(self, value: Any) -> dict[str, np.ndarray]:
        raise UserError("this model has no form with strings")

    def _context(self, value: Any) -> tuple[list[int], int]:
        """The ids of a context without <eos>, and how many of its turns were cut; see `ContextFeatures`."""
        turns = Context.of(value)[-1 - self.history :]
        ids: list[int] = []
        cut, full = 0, False
        for before, (number, text) in enumerate(map(mark_and_text, reversed(turns))):
            # A turn of megabytes is not split into tokens only to be cut off. The last one is needed in any case.
            huge = before > 0 and len(text.encode("utf-8")) > BYTES_PER_TOKEN * self.most
            tag = self._tags[min((before + 1) % 2 if number is None else number, len(self._tags) - 1)]
            own = [] if huge else self.text.encode(text)[:-1]
            own = [tag, *own] if own else []
            excess = len(own) + 1 - self.most
            if not before and excess > 0:
                own, cut = own[:1] + own[1 + excess :], 1
            full = full or huge or (before > 0 and len(ids) + len(own) + 1 > self.most)
            cut += full and bool(own or huge)
            ids = ids if full else own + ids
        return ids, cut


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

    def prompt_length(self, row: np.ndarray) -> int:
        return 0

    def fault(self, most: int, value: Any) -> str:
        """A message if a recording is longer than `most` seconds, or ""; 0 is no limit."""
        if not most or len(value) <= most * self.spec.sample_rate:
            return ""
        return f"{len(value) / self.spec.sample_rate:.1f}".join(too_many_seconds(most))

    def copied_words(self, value: Any) -> list[str]:
        return []

    def warning(self, value: Any) -> str:
        return ""

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

    def warnings(self, inputs: Sequence[Any]) -> list[tuple[int, str]]:
        """(index, message) of the inputs of which something is not read, such as turns that do not fit."""
        found = ((index, self.source.warning(one)) for index, one in enumerate(inputs))
        return [(index, message) for index, message in found if message]

    def check(self, inputs: Sequence[Any]) -> None:
        """Raises `UserError` for the first of `faults`."""
        for index, message in self.faults(inputs):
            raise UserError(f"input {index + 1}: {message}")


PLAIN_SOURCES: dict[type, Any] = {
    NoSourceSpec: PlainPrompts,
    TextSpec: PlainTokens,
    DialogueSpec: PlainDialogues,
    AudioSpec: PlainSamples,
    ImageSpec: PlainImages,
    VideoSpec: PlainVideos,
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
