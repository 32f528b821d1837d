"""From recordings and their transcripts to padded batches for `fit`. Each step is a function from Dataset to Dataset:

kept, report = filter_utterances(utterances, target_features, spec, rate, "data.train", ...)
batches = batch_by_seconds(spec, rate)(shuffled_epochs(kept, ...))
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.audio_files import Faults
from tfseq2seq.data.batching import BatchByLength, batch_by_length
from tfseq2seq.data.corpora import held_places, vocabulary_step
from tfseq2seq.data.segments import Table, Units
from tfseq2seq.data.utterances import open_utterances
from tfseq2seq.errors import UserError
from tfseq2seq.spec import DataSpec

_NAMED = 5
_SEGMENT_BYTES = 1 << 30
_LENGTHS_APART = 1.1
_KEPT, _EMPTY, _SHORT, _LONG, _WORDY, _TIGHT = range(6)


@dataclass(frozen=True)
class SpeechReport:
    """What a corpus of recordings holds and what was left out of it.

    kept utterances, their seconds and target tokens, <eos> included. Left out, by name: unreadable ones (with the
    reason), those without text, shorter or longer than allowed, with too long a text, and those with too few encoder
    positions for their text, which have no alignment. Among all there are incomplete ones (with what is missing).
    """

    kept: int
    seconds: float
    target_tokens: int
    unreadable: tuple[str, ...]
    empty: tuple[str, ...]
    short: tuple[str, ...]
    long: tuple[str, ...]
    wordy: tuple[str, ...]
    tight: tuple[str, ...]
    incomplete: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All utterances of the corpus."""
        return self.kept + sum(map(len, (self.unreadable, self.empty, self.short, self.long, self.wordy, self.tight)))

    def __add__(self, other: SpeechReport) -> SpeechReport:
        fields = [field.name for field in dataclasses.fields(self)]
        return SpeechReport(*(getattr(self, name) + getattr(other, name) for name in fields))

    def __str__(self) -> str:
        text = f"{self.kept:,} utterances, {self.seconds / 60:,.1f} minutes, {self.target_tokens:,} target tokens"
        reasons = (
            (self.unreadable, "cannot be read"),
            (self.empty, "have no text"),
            (self.short, "are shorter than data.min_seconds"),
            (self.long, "are longer than data.max_seconds"),
            (self.wordy, "have more tokens than data.max_target_length"),
            (self.tight, "are too short for their text: no alignment; less source.subsampling would keep them"),
        )
        for names, reason in reasons:
            if names:
                text += f"; {len(names):,} left out because they {reason} ({_first(names)})"
        if self.incomplete:
            count = f"{len(self.incomplete):,} cut off or followed by another recording"
            text += f"; warning: {count} ({_first(self.incomplete)})"
        return text


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


@dataclass(frozen=True)
class SpeechCorpora:
    """Utterances to train on and to validate with, each a dataset of {"source": samples [N] float32, "target": text,
    "name"} and what could not be read of it so far.

    Attributes:
        texts: yields the training transcripts to learn a vocabulary from.
        units: the training utterances in units; None if they are to be kept in memory.
        texts_told: a sentence about the transcripts; empty if they are all.
    """

    train: tf.data.Dataset
    train_faults: Faults
    validation: tf.data.Dataset
    validation_faults: Faults
    texts: Callable[[], Iterator[bytes]]
    units: Units | None = None
    texts_told: str = ""


def speech_corpora(spec: DataSpec, rate: int, seed: int) -> SpeechCorpora:
    """Opens what a recipe trains on. Without validation files, `spec.holdout` training utterances serve as them.

    Args:
        spec: where the corpora are.
        rate: samples a second to read them at.
        seed: draws the utterances held out; equal seeds draw the same ones from the same corpus.

    Raises:
        UserError: nothing is given, something is wrong in a manifest or a shard, or nothing is left to train on.
    """
    corpus = open_utterances(spec.train, rate, "data.train")
    if not spec.validation.given and not spec.holdout:
        raise UserError(
            "data.validation: no corpus is given; set data.validation.manifest or records, or let data.holdout take "
            "utterances out of the training corpus"
        )
    faults = Faults(), Faults()
    if spec.validation.given:
        held = frozenset[int]()
        validation = open_utterances(spec.validation, rate, "data.validation").without(held, faults[1])
    else:
        held = held_places(corpus.count, spec.holdout, seed)
        validation = corpus.only(held, faults[1])
    train = corpus.without(held, faults[0])
    step, told = vocabulary_step(corpus.count - len(held), spec.vocabulary_lines)

    def texts() -> Iterator[bytes]:
        return itertools.islice(corpus.texts(held), 0, None, step)

    units = None if spec.cache else corpus.units(held)
    return SpeechCorpora(train, faults[0], validation, faults[1], texts, units, told)


def filter_utterances(
    utterances: tf.data.Dataset,
    target: Any,
    spec: DataSpec,
    rate: int,
    name: str,
    positions: Callable[[tf.Tensor], tf.Tensor],
    aligned: bool,
    faults: Faults,
) -> tuple[tf.data.Dataset, SpeechReport]:
    """Examples {"source": samples, "target": text, "name"} to {"source": samples [N], "target": ids [T]}, without those
    that cannot be trained on. Ids end with <eos>.

    The corpus is read through once here; with `spec.cache` that is the only time.

    Args:
        target: text features.
        name: what it is, for messages.
        positions: number of samples to number of encoder positions.
        aligned: every token needs a position of its own, and equal neighbors one between them, as in CTC.
        faults: what the dataset notes of files that cannot be read.

    Raises:
        UserError: no utterance is left.
    """
    checked = utterances.map(
        _judged(target, spec, rate, positions, aligned), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    if spec.cache:
        checked = checked.cache()
    sizes = checked.map(lambda one: (tf.size(one["source"]), tf.size(one["target"]), one["name"], one["verdict"]))
    count = _Count(rate)
    for row in sizes.as_numpy_iterator():
        count.add(*row)
    report = count.report(faults)
    if not report.kept:
        raise UserError(f"{name}: no utterance is left to use: {report}")
    chosen = checked.filter(lambda example: tf.equal(example["verdict"], _KEPT))
    return chosen.map(_without_name), report


def utterance_collector(
    utterances: tf.data.Dataset,
    target: Any,
    spec: DataSpec,
    rate: int,
    positions: Callable[[tf.Tensor], tf.Tensor],
    aligned: bool,
    faults: Faults,
    advance: Callable[[int], None],
) -> Callable[[], tuple[Table, SpeechReport]]:
    """As `filter_utterances`, to a table in memory, which may be empty.

    The table also has the "source_length" that `batch_by_seconds` adds.

    Args:
        utterances, target, spec, rate, positions, aligned, faults: as in `filter_utterances`.
        advance: called with the number of utterances that are read.

    Returns:
        A function that reads the utterances, each time anew.
    """
    batches, count = batch_by_seconds(spec, rate), _Count(rate)

    def noted(name: bytes, samples: np.ndarray, ids: np.ndarray, verdict: np.ndarray) -> np.bool_:
        count.add(samples, ids, name, verdict)
        advance(1)
        return np.bool_(verdict == _KEPT)

    def kept(example: dict[str, tf.Tensor]) -> tf.Tensor:
        sizes = tf.size(example["source"]), tf.size(example["target"])
        return tf.ensure_shape(tf.numpy_function(noted, [example["name"], *sizes, example["verdict"]], tf.bool), [])

    checked = utterances.map(
        _judged(target, spec, rate, positions, aligned), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    prepared = checked.filter(kept).map(_without_name).map(batches.prepare)
    measured = prepared.map(lambda example: (example, batches.length(example)))

    def collect() -> tuple[Table, SpeechReport]:
        count.clear()
        return Table.of_examples(measured), count.report(faults)

    return collect


def _judged(
    target: Any, spec: DataSpec, rate: int, positions: Callable[[tf.Tensor], tf.Tensor], aligned: bool
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    """Texts to ids, and a verdict on each utterance: whether it is kept, or why not."""

    def judged(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        samples, ids = example["source"], target.ids(tf.expand_dims(example["target"], 0)).flat_values
        count, seconds = tf.size(samples), tf.cast(tf.size(samples), tf.float32) / rate
        needed = tf.constant(1)
        if aligned:
            needed = tf.size(ids) - 1 + tf.math.count_nonzero(tf.equal(ids[1:], ids[:-1]), dtype=tf.int32)
        verdict = tf.where(positions(count) < needed, _TIGHT, _KEPT)
        verdict = tf.where(tf.size(ids) > spec.max_target_length, _WORDY, verdict)
        verdict = tf.where(seconds > spec.max_seconds, _LONG, verdict)
        verdict = tf.where(seconds < spec.min_seconds, _SHORT, verdict)
        verdict = tf.where(tf.size(ids) < 2, _EMPTY, verdict)
        return {**example, "target": ids, "verdict": verdict}

    return judged


class _Count:
    """Counts utterances by the verdict on them."""

    def __init__(self, rate: int):
        self.rate = rate
        self.clear()

    def clear(self) -> None:
        self.left_out: list[list[str]] = [[] for _ in range(6)]
        self.kept, self.seconds, self.tokens = 0, 0.0, 0

    def add(self, samples: Any, ids: Any, name: bytes, verdict: Any) -> None:
        """Counts an utterance of so many samples and ids."""
        if verdict == _KEPT:
            self.kept, self.seconds, self.tokens = (
                self.kept + 1,
                self.seconds + float(samples) / self.rate,
                self.tokens + int(ids),
            )
        else:
            self.left_out[verdict].append(name.decode("utf-8", "replace"))

    def report(self, faults: Faults) -> SpeechReport:
        unreadable, incomplete = (
            tuple(f"{utterance}: {message}" for utterance, message in noted)
            for noted in (faults.found, faults.warnings)
        )
        empty, short, long, wordy, tight = (tuple(names) for names in self.left_out[_EMPTY:])
        return SpeechReport(
            self.kept, self.seconds, self.tokens, unreadable, empty, short, long, wordy, tight, incomplete
        )


def _without_name(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The name and the verdict are needed for the report only."""
    return {field: value for field, value in example.items() if field not in ("name", "verdict")}


def batch_by_seconds(spec: DataSpec, rate: int) -> BatchByLength:
    """Batches {"source": samples [B, N], "source_length": [B], "target": ids [B, T]} of recordings of similar length.

    A batch has at most `spec.batch_seconds` seconds with padding.
    """
    bounds = [max(spec.min_seconds, 0.25)]
    while bounds[-1] < spec.max_seconds:
        bounds.append(bounds[-1] * _LENGTHS_APART)
    bounds[-1] = max(spec.max_seconds, bounds[0])
    sizes = [max(1, int(spec.batch_seconds / bound)) for bound in bounds]
    batches = batch_by_length(
        lambda example: example["source_length"], [int(bound * rate) for bound in bounds], sizes, spec.batch_pairs
    )
    return dataclasses.replace(
        batches, prepare=lambda example: {**example, "source_length": tf.size(example["source"])}
    )


def most_utterances(spec: DataSpec, rate: int) -> int:
    """How many utterances are held in memory together where the corpus is not: their samples take 1 GB at most."""
    return spec.shuffle_pairs or max(1, int(_SEGMENT_BYTES / (4 * rate * spec.max_seconds)))
