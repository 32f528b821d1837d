"""From pictures and their captions to padded batches for `fit`.

A raw example is a picture with all its captions: {"source": path, "target": captions [C]}. It becomes one example for
each caption. What a model reads of the picture is held once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.batching import BatchByLength, batch_by_length, few_lengths
from tfseq2seq.data.caption_manifests import Picture, read_pictures
from tfseq2seq.data.corpora import expanded, held_places, vocabulary_step
from tfseq2seq.data.segments import Selection, Table, Units
from tfseq2seq.errors import UserError
from tfseq2seq.spec import CorpusSpec, DataSpec

_NAMED = 5
_SEGMENT_BYTES = 1 << 30
# Pictures that are decoded in one call, and examples in a batch where a recipe sets no number.
_CHUNK, _BATCH = 32, 64


@dataclass(frozen=True)
class CaptionReport:
    """What a corpus of pictures holds and what was left out of it.

    Attributes:
        kept: captions that are used, each an example.
        pictures: pictures with such a caption.
        target_tokens: tokens of these captions, <eos> included.
        unreadable: pictures that cannot be read, with the reason.
        lost: captions of these pictures.
        empty: captions without text.
        wordy: captions of too many tokens.
        noun: what captions are about, "pictures" or "clips".
    """

    kept: int = 0
    pictures: int = 0
    target_tokens: int = 0
    unreadable: tuple[str, ...] = ()
    lost: int = 0
    empty: int = 0
    wordy: int = 0
    noun: str = "pictures"

    @property
    def total(self) -> int:
        """All captions of the corpus."""
        return self.kept + self.lost + self.empty + self.wordy

    def __add__(self, other: CaptionReport) -> CaptionReport:
        names = [field.name for field in dataclasses.fields(self) if field.name != "noun"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return CaptionReport(**sums, noun=self.noun)

    def __str__(self) -> str:
        text = f"{self.kept:,} captions of {self.pictures:,} {self.noun}, {self.target_tokens:,} target tokens"
        if self.unreadable:
            names = "; ".join(self.unreadable[:_NAMED]) + ("; ..." if len(self.unreadable) > _NAMED else "")
            text += (
                f"; {len(self.unreadable):,} {self.noun} with {self.lost:,} captions left out because they cannot be "
                f"read ({names})"
            )
        if self.empty:
            text += f"; {self.empty:,} captions left out because they have no text"
        if self.wordy:
            text += f"; {self.wordy:,} captions left out because they have more tokens than data.max_target_length"
        return text


@dataclass(frozen=True)
class CaptionCorpora:
    """Pictures to train on and to validate with, as datasets of raw examples.

    Attributes:
        texts: yields the training captions to learn a vocabulary from.
        units: the training pictures in units; None if they are to be kept in memory.
        texts_told: a sentence about the captions; empty if they are all.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    texts: Callable[[], Iterator[bytes]]
    units: Units | None = None
    texts_told: str = ""


def caption_corpora(spec: DataSpec, seed: int, clips: bool = False) -> CaptionCorpora:
    """Opens what a recipe trains on: pictures, or clips. Without a manifest to validate with, `spec.holdout` training
    pictures serve as such, with all their captions.

    Raises:
        UserError: nothing is given, something is wrong in a manifest, or nothing is left to train on.
    """
    pictures = _opened(spec.train, "data.train", clips)
    if not spec.validation.given and not spec.holdout:
        raise UserError(
            "data.validation: no corpus is given; set data.validation.manifest, or let data.holdout take "
            f"{'clips' if clips else 'pictures'} out of the training corpus"
        )
    if spec.validation.given:
        validation = _opened(spec.validation, "data.validation", clips)
    else:
        held = held_places(len(pictures), spec.holdout, seed)
        validation = [pictures[index] for index in sorted(held)]
        pictures = [one for index, one in enumerate(pictures) if index not in held]
    step, told = vocabulary_step(sum(len(one.captions) for one in pictures), spec.vocabulary_lines)

    def texts() -> Iterator[bytes]:
        captions = (caption.encode() for one in pictures for caption in one.captions)
        return itertools.islice(captions, 0, None, step)

    train, units = raw_examples(pictures), None
    if not spec.cache:
        selection = Selection()
        sizes = [len(one.captions) for one in pictures]
        units = Units(sizes, raw_examples(pictures, selection.dataset()), selection, countable=True)
    return CaptionCorpora(train, raw_examples(validation), texts, units, told)


def _opened(spec: CorpusSpec, name: str, clips: bool) -> list[Picture]:
    if not spec.manifest:
        raise UserError(f"{name}: no corpus is given; set {name}.manifest")
    spec = expanded(spec)
    return read_pictures(spec.manifest, spec.split, clips)


def raw_examples(pictures: Sequence[Picture], indices: tf.data.Dataset | None = None) -> tf.data.Dataset:
    """A dataset of {"source": path, "target": captions [C]}, of all pictures or of those at some indices."""
    paths = tf.constant([one.path for one in pictures], tf.string)
    flat = tf.constant([caption for one in pictures for caption in one.captions], tf.string)
    captions = tf.RaggedTensor.from_row_lengths(flat, [len(one.captions) for one in pictures])
    chosen = tf.data.Dataset.range(len(pictures)) if indices is None else indices
    return chosen.map(lambda index: {"source": paths[index], "target": captions[index]})


def caption_collector(
    examples: tf.data.Dataset,
    target: Any,
    longest: int,
    read: Callable[[Sequence[str]], tuple[Sequence[Any], Sequence[str]]],
    signature: tf.TensorSpec,
    advance: Callable[[int], None] = lambda count: None,
    noun: str = "pictures",
) -> Callable[[], tuple[Table, CaptionReport]]:
    """Raw examples to a table of {"source": what a model reads of a picture, "target": ids [T]}, which may be empty.

    Args:
        examples: raw examples.
        target: text features of the captions.
        longest: the most tokens of a caption that is used, with <eos>.
        read: from paths of pictures to what a model reads of each, and messages about those that cannot be read.
        signature: of what it reads.
        advance: called with the number of captions that are read.
        noun: what captions are about, for the report.

    Returns:
        A function that reads the examples, each time anew.
    """

    def encoded(chunk: dict[str, Any]) -> tuple[Any, ...]:
        captions = chunk["target"]
        ids = target.ids(captions.flat_values)
        return chunk["source"], captions.row_lengths(), ids.flat_values, ids.row_lengths()

    chunks = examples.ragged_batch(_CHUNK).map(encoded)

    def collect() -> tuple[Table, CaptionReport]:
        rows, report = _Rows(signature, longest), CaptionReport(noun=noun)
        for names, captions, ids, lengths in chunks.as_numpy_iterator():
            paths = [name.decode("utf-8") for name in names]
            found = rows.add(paths, *read(paths), captions, ids, lengths)
            advance(found.total)
            report += found
        return rows.table(), report

    return collect


class _Rows:
    """Gathers the examples of a table."""

    def __init__(self, signature: tf.TensorSpec, longest: int):
        self.signature, self.longest = signature, longest
        self.sources: list[np.ndarray] = []
        self.ids: list[np.ndarray] = []

    def add(
        self,
        paths: Sequence[str],
        sources: Sequence[Any],
        faults: Sequence[str],
        captions: np.ndarray,
        ids: np.ndarray,
        lengths: np.ndarray,
    ) -> CaptionReport:
        """Adds the captions of some pictures that can be trained on, and returns what they are.

        Args:
            paths, sources, faults: of each picture.
            captions: [P] the number of captions of each picture.
            ids, lengths: the ids of all captions, one after the other, and the number of those of each caption.
        """
        each = iter(np.split(ids, np.cumsum(lengths)[:-1]) if len(lengths) else [])
        report = CaptionReport()
        for path, source, fault, count in zip(paths, sources, faults, captions, strict=True):
            own = list(itertools.islice(each, int(count)))
            if fault:
                report += CaptionReport(unreadable=(f"{path}: {fault}",), lost=len(own))
                continue
            kept = [row for row in own if 1 < len(row) <= self.longest]
            empty = sum(len(row) < 2 for row in own)
            if kept:
                self.sources += [source] * len(kept)
                self.ids += kept
            tokens = sum(map(len, kept))
            report += CaptionReport(len(kept), bool(kept), tokens, empty=empty, wordy=len(own) - len(kept) - empty)
        return report

    def table(self) -> Table:
        signature = {"source": self.signature, "target": tf.TensorSpec([None], tf.int32)}
        fields = {"source": self.sources, "target": self.ids}
        return Table(fields, np.array([len(row) for row in self.ids], "int64"), signature)


def table_examples(table: Table) -> tf.data.Dataset:
    """The examples of a table as a dataset."""

    def rows() -> Iterator[dict[str, Any]]:
        for index in range(len(table)):
            yield {name: values[index] for name, values in table.fields.items()}

    return tf.data.Dataset.from_generator(rows, output_signature=dict(table.signature))


def batch_by_captions(spec: DataSpec) -> BatchByLength:
    """Batches {"source": [B, ...], "target": ids [B, T]} of captions of similar length."""
    bounds = few_lengths(spec.max_target_length)
    return batch_by_length(
        lambda example: tf.size(example["target"]), bounds, [spec.batch_pairs or _BATCH] * len(bounds)
    )


def most_captions(spec: DataSpec, signature: tf.TensorSpec) -> int:
    """How many examples are held in memory together where the corpus is not: what models read of them takes 1 GB at
    most."""
    size = signature.shape.num_elements() * signature.dtype.size
    return spec.shuffle_pairs or max(1, _SEGMENT_BYTES // size)
