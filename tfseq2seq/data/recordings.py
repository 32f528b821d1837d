"""From recordings and their transcripts to padded batches for `fit`. Each step is a function from Dataset to Dataset:

kept, report = filter_utterances(utterances, target_features, spec, rate, "data.train", ...)
batches = batch_by_seconds(spec, rate)(shuffled_epochs(kept, ...))
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.batching import Step, batch_by_length
from tfseq2seq.data.corpora import expanded, held_places, without_and_with
from tfseq2seq.data.manifests import Utterance, read_manifest
from tfseq2seq.data.shards import shard_utterances
from tfseq2seq.errors import UserError
from tfseq2seq.spec import CorpusSpec, DataSpec

_NAMED = 5
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
    "name"} and what could not be read of it so far. `texts` gives the training transcripts."""

    train: tf.data.Dataset
    train_faults: Faults
    validation: tf.data.Dataset
    validation_faults: Faults
    texts: Callable[[], Iterator[bytes]]


def speech_corpora(spec: DataSpec, rate: int, seed: int) -> SpeechCorpora:
    """Opens what a recipe trains on. Without validation files, `spec.holdout` training utterances serve as them.

    Args:
        spec: where the corpora are.
        rate: samples a second to read them at.
        seed: draws the utterances held out; equal seeds draw the same ones from the same corpus.

    Raises:
        UserError: nothing is given, something is wrong in a manifest or a shard, or nothing is left to train on.
    """
    faults = Faults(), Faults()
    if spec.validation.given:
        train, _, texts = _opened(spec.train, rate, "data.train", faults[0])
        validation, _, _ = _opened(spec.validation, rate, "data.validation", faults[1])
        return SpeechCorpora(train, faults[0], validation, faults[1], lambda: texts(frozenset()))
    if not spec.holdout:
        raise UserError(
            "data.validation: no corpus is given; set data.validation.manifest or records, or let data.holdout take "
            "utterances out of the training corpus"
        )
    corpus = expanded(spec.train)
    if corpus.manifest:
        utterances = read_manifest(corpus.manifest, corpus.split)
        held = held_places(len(utterances), spec.holdout, seed)
        parts: tuple[list[Utterance], list[Utterance]] = ([], [])
        for index, utterance in enumerate(utterances):
            parts[index in held].append(utterance)
        train, validation = (manifest_utterances(part, rate, own) for part, own in zip(parts, faults))
        return SpeechCorpora(train, faults[0], validation, faults[1], lambda: (one.text.encode() for one in parts[0]))
    whole, count, texts = _opened(spec.train, rate, "data.train", faults[0])
    held = held_places(count, spec.holdout, seed)
    train, validation = without_and_with(whole, count, held)
    return SpeechCorpora(train, faults[0], validation, faults[1], lambda: texts(held))


def _opened(
    spec: CorpusSpec, rate: int, name: str, faults: Faults
) -> tuple[tf.data.Dataset, int, Callable[[Container[int]], Iterator[bytes]]]:
    """A corpus, how many utterances it names, and its transcripts but for those at the places given."""
    spec = expanded(spec)
    if spec.manifest:
        utterances = read_manifest(spec.manifest, spec.split)
        return (
            manifest_utterances(utterances, rate, faults),
            len(utterances),
            lambda held: (one.text.encode() for index, one in enumerate(utterances) if index not in held),
        )
    if spec.records:
        records, count = shard_utterances(spec.records, rate)
        texts = records.map(lambda example: example["target"])
        return (
            records,
            count,
            lambda held: (text for index, text in enumerate(texts.as_numpy_iterator()) if index not in held),
        )
    raise UserError(f"{name}: no corpus is given; set {name}.manifest or {name}.records")


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

    checked = utterances.map(judged, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if spec.cache:
        checked = checked.cache()
    left_out: list[list[str]] = [[] for _ in range(6)]
    kept, seconds, tokens = 0, 0.0, 0
    sizes = checked.map(lambda one: (tf.size(one["source"]), tf.size(one["target"]), one["name"], one["verdict"]))
    for samples, ids, utterance, verdict in sizes.as_numpy_iterator():
        if verdict == _KEPT:
            kept, seconds, tokens = kept + 1, seconds + float(samples) / rate, tokens + int(ids)
        else:
            left_out[verdict].append(utterance.decode("utf-8", "replace"))
    unreadable, incomplete = (
        tuple(f"{utterance}: {message}" for utterance, message in noted) for noted in (faults.found, faults.warnings)
    )
    empty, short, long, wordy, tight = (tuple(names) for names in left_out[_EMPTY:])
    report = SpeechReport(kept, seconds, tokens, unreadable, empty, short, long, wordy, tight, incomplete)
    if not kept:
        raise UserError(f"{name}: no utterance is left to use: {report}")
    chosen = checked.filter(lambda example: tf.equal(example["verdict"], _KEPT))
    return chosen.map(_without_name), report


def _without_name(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The name and the verdict are needed for the report only."""
    return {field: value for field, value in example.items() if field not in ("name", "verdict")}


def batch_by_seconds(spec: DataSpec, rate: int) -> Step:
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
    return lambda examples: batches(
        examples.map(lambda example: {**example, "source_length": tf.size(example["source"])})
    )
