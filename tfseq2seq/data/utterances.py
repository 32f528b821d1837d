"""Corpora of recordings as files: a manifest or shards, with the same methods."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Protocol

import tensorflow as tf

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.corpora import expanded, without_and_with
from tfseq2seq.data.manifests import Utterance, read_manifest
from tfseq2seq.data.records import files_of_units, records_without
from tfseq2seq.data.segments import Selection, Units
from tfseq2seq.data.shard_index import Shard, check_shard
from tfseq2seq.data.shards import (
    check_recordings,
    find_shards,
    parsed_utterances,
    transcripts_of_files,
    utterances_of_files,
)
from tfseq2seq.errors import UserError
from tfseq2seq.spec import CorpusSpec


class Utterances(Protocol):
    """A corpus of recordings. `held` are the places of utterances to validate with.

    Attributes:
        count: the number of utterances, also of those that cannot be read.
    """

    count: int

    def without(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        """The utterances to train on."""

    def only(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        """The utterances to validate with."""

    def texts(self, held: Container[int]) -> Iterator[bytes]:
        """Yields the transcripts to train on."""

    def units(self, held: frozenset[int]) -> Units:
        """The utterances to train on in units."""


def open_utterances(spec: CorpusSpec, rate: int, name: str) -> Utterances:
    """Opens a corpus.

    Args:
        spec: where it is.
        rate: samples a second to read it at.
        name: what it is, for messages, such as "data.train".

    Raises:
        UserError: no corpus is given, or something is wrong in a manifest or a shard.
    """
    spec = expanded(spec)
    if spec.manifest:
        return _OfManifest(read_manifest(spec.manifest, spec.split), rate)
    if spec.records:
        return _OfShards(find_shards(spec.records, rate), rate)
    raise UserError(f"{name}: no corpus is given; set {name}.manifest or {name}.records")


class _OfManifest:
    def __init__(self, utterances: Sequence[Utterance], rate: int):
        self.utterances, self.rate, self.count = utterances, rate, len(utterances)

    def without(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        return manifest_utterances(self._training(held), self.rate, faults)

    def only(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        return manifest_utterances([self.utterances[index] for index in sorted(held)], self.rate, faults)

    def texts(self, held: Container[int]) -> Iterator[bytes]:
        return (one.text.encode() for one in self._training(held))

    def units(self, held: frozenset[int]) -> Units:
        utterances, faults, selection = self._training(held), Faults(), Selection()
        examples = manifest_utterances(utterances, self.rate, faults, selection.dataset())
        return Units([1] * len(utterances), examples, selection, faults)

    def _training(self, held: Container[int]) -> list[Utterance]:
        return [one for index, one in enumerate(self.utterances) if index not in held]


class _OfShards:
    def __init__(self, shards: Sequence[Shard], rate: int):
        self.shards, self.rate = shards, rate
        self.files = [str(shard.path) for shard in shards]
        self.count = sum(shard.examples for shard in shards)

    def without(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        whole = utterances_of_files(self.files)
        return without_and_with(whole, self.count, held)[0] if held else whole

    def only(self, held: frozenset[int], faults: Faults) -> tf.data.Dataset:
        return without_and_with(utterances_of_files(self.files), self.count, held)[1]

    def texts(self, held: Container[int]) -> Iterator[bytes]:
        texts = transcripts_of_files(self.files).as_numpy_iterator()
        return (text for index, text in enumerate(texts) if index not in held)

    def units(self, held: frozenset[int]) -> Units:
        starts = list(itertools.accumulate((shard.examples for shard in self.shards), initial=0))
        own = [
            frozenset(place - start for place in held if start <= place < end)
            for start, end in itertools.pairwise(starts)
        ]
        sizes = [shard.examples - len(places) for shard, places in zip(self.shards, own)]

        def explain(units: Sequence[int]) -> None:
            for unit in units:
                shard = self.shards[unit]
                check_shard(shard)
                found = check_recordings(self.files[unit], self.rate)
                if found != shard.examples:
                    raise UserError(f"{shard.path}: must have {shard.examples:,} records as before, got {found:,}")

        selection = Selection()
        records = records_without(files_of_units(selection.dataset(), self.files, [sorted(places) for places in own]))
        return Units(sizes, parsed_utterances(records), selection, Faults(), explain, countable=True)
