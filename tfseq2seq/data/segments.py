"""The examples of an epoch in segments, each of which is held in memory, shuffled and batched by itself.

A corpus in memory is one segment. A larger one is read by units, such as shards: each epoch draws an order of units,
and those that follow each other form the segments. What an epoch holds depends only on the seed and on its number, so a
position is a few numbers, and to continue there no more than one segment is read.

    epoch 0   | segment 0: shards 4, 1 | segment 1: shards 0, 5 | segment 2: shards 3, 2 |
              | batch 0, 1, 2, ...     |            ^ position: {"epoch": 0, "segment": 1, "batch": 2}
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.spec import PAD

_START = {"epoch": 0, "segment": 0, "batch": 0}


class Rows:
    """Arrays of one dimension and of different lengths, one after the other in one array.

    Args:
        values: the entries of all rows.
        ends: [N] where each row ends in `values`.
    """

    def __init__(self, values: np.ndarray, ends: np.ndarray):
        self.values, self.ends = values, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.ends[index - 1] if index else 0 : self.ends[index]]


@dataclass(frozen=True)
class Table:
    """Examples in memory.

    Attributes:
        fields: the N values of each field of the examples.
        lengths: [N] int64, the length by which an example is batched.
        signature: what an example is, without the axis of a batch.
    """

    fields: Mapping[str, Any]
    lengths: np.ndarray
    signature: Mapping[str, tf.TensorSpec]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of_examples(cls, measured: tf.data.Dataset) -> Table:
        """Reads a dataset of single examples, each with its length: a dictionary of tensors, and a scalar."""
        signature, _ = measured.element_spec
        fields: dict[str, list[Any]] = {name: [] for name in signature}
        lengths = []
        for example, length in measured.as_numpy_iterator():
            lengths.append(length)
            for name, value in example.items():
                fields[name].append(value)
        return cls(fields, np.array(lengths, "int64"), signature)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples of a batch, padded to the longest of them."""
        return {
            name: _padded([self.fields[name][index] for index in indices], spec)
            for name, spec in self.signature.items()
        }

    def batch_signature(self) -> dict[str, tf.TensorSpec]:
        """What `batch` gives."""
        return {name: tf.TensorSpec([None, *spec.shape], spec.dtype) for name, spec in self.signature.items()}


def _padded(rows: list[Any], spec: tf.TensorSpec) -> np.ndarray:
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    if not spec.shape.rank:
        return np.array(rows, dtype)
    shape = [len(rows), *np.max([row.shape for row in rows], axis=0)]
    padded = np.full(shape, b"" if spec.dtype == tf.string else PAD, dtype)
    for index, row in enumerate(rows):
        padded[index][tuple(map(slice, row.shape))] = row
    return padded


def plan_batches(
    lengths: np.ndarray, bounds: Sequence[int], sizes: Sequence[int], random: np.random.Generator, together: int = 0
) -> list[np.ndarray]:
    """Shuffles examples, and makes batches of those whose lengths lie in the same bucket.

    What remains in the buckets at the end is joined, from the longest example to the shortest, to batches of the size
    that their longest example allows. At most one batch is therefore smaller than it could be.

    Args:
        lengths: [N] the lengths of the examples.
        bounds: the greatest length in each bucket, rising; no example is longer than the last.
        sizes: the number of examples in a batch of each bucket.
        random: draws the order.
        together: how many examples that follow each other are shuffled at a time; 0 for all.

    Returns:
        The indices of the examples of each batch. Each example is in one of them.
    """
    order = _shuffled(len(lengths), together, random)
    buckets = np.minimum(np.searchsorted(bounds, lengths[order]), len(bounds) - 1)
    counts = np.bincount(buckets, minlength=len(bounds))
    batches, remaining = [], []
    # Places in `order`, one bucket after the other.
    for places, size in zip(np.split(np.argsort(buckets, kind="stable"), np.cumsum(counts)[:-1]), sizes):
        whole = len(places) - len(places) % size
        # A batch is there as soon as its last example is.
        batches += [(full[-1], full) for full in places[:whole].reshape(-1, size)]
        remaining.append(places[whole:])
    rest = np.concatenate(remaining)
    while len(rest):
        size = sizes[buckets[rest[-1]]]
        batches.append((random.uniform(0, len(lengths)), rest[-size:]))
        rest = rest[:-size]
    return [order[places] for _, places in sorted(batches, key=lambda batch: batch[0])]


def _shuffled(count: int, together: int, random: np.random.Generator) -> np.ndarray:
    if not together or together >= count:
        return random.permutation(count)
    starts = random.permutation(np.arange(0, count, together))
    return np.concatenate([start + random.permutation(min(together, count - start)) for start in starts])


class Selection:
    """The numbers of the units that a dataset reads. Each pass over the dataset asks for them anew.

    A dataset for each selection would trace its functions again, which takes seconds for recordings.
    """

    def __init__(self) -> None:
        self.units: Sequence[int] = ()

    def dataset(self) -> tf.data.Dataset:
        """The numbers, scalars of int64."""
        return tf.data.Dataset.from_generator(lambda: iter(self.units), output_signature=tf.TensorSpec([], tf.int64))


@dataclass(frozen=True)
class Units:
    """Raw training examples in units that can each be read without the others.

    Attributes:
        sizes: the number of examples in each unit.
        examples: a dataset of the examples of the units that are selected, in order.
        selection: selects units.
        noted: what the dataset notes of examples that it cannot read; it can be cleared.
        explain: raises `UserError` for a fault in the files of some units, if it finds one.
        countable: whether every example of a unit is given or noted. Fewer mean a fault.
        opened: from a dataset of the numbers of units to their examples, by operations of TensorFlow alone, which
            other processes can run; None where there is none. It raises `UserError` for a missing or a cut file.
    """

    sizes: Sequence[int]
    examples: tf.data.Dataset
    selection: Selection = field(default_factory=Selection)
    noted: Any = None
    explain: Callable[[Sequence[int]], None] = lambda units: None
    countable: bool = False
    opened: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None

    def select(self, units: Sequence[int]) -> None:
        """Selects the units that `examples` reads."""
        self.selection.units = units
        if self.noted is not None:
            self.noted.clear()

    @classmethod
    def whole(cls, examples: tf.data.Dataset, noted: Any = None) -> Units:
        """A single unit: a corpus that can be read only as a whole."""
        return cls([1], examples, noted=noted)


class Segments:
    """The segments of the epochs of a training corpus.

    Args:
        units: the raw examples.
        most: the largest number of examples of several units in a segment.
        collect: reads the units that are selected to a table and a report. Reports of several can be added.
        seed: with the number of an epoch it decides the order of the units.

    Attributes:
        whole: whether the corpus is one segment. It then stays in memory.
    """

    def __init__(self, units: Units, most: int, collect: Callable[[], tuple[Table, Any]], seed: int) -> None:
        self.units, self.most, self.collect, self.seed = units, most, collect, seed
        self.whole = len(units.sizes) == 1 or sum(units.sizes) <= most
        # One thread: a selection is for one pass.
        self._reader = concurrent.futures.ThreadPoolExecutor(1, "segments")
        self._lock = threading.Lock()
        self._read: dict[tuple[int, ...], concurrent.futures.Future[tuple[Table, Any]]] = {}

    def of_epoch(self, epoch: int) -> list[tuple[int, ...]]:
        """Returns the units of each segment of an epoch."""
        sizes = self.units.sizes
        if self.whole:
            return [tuple(range(len(sizes)))]
        segments: list[tuple[int, ...]] = []
        held = self.most
        for unit in np.random.default_rng([self.seed, epoch]).permutation(len(sizes)).tolist():
            if held + sizes[unit] > self.most:
                segments.append(())
                held = 0
            segments[-1] += (unit,)
            held += sizes[unit]
        return segments

    def start_reading(self, segment: tuple[int, ...]) -> concurrent.futures.Future[tuple[Table, Any]]:
        """Reads a segment in the background. No more than the last two are kept."""
        with self._lock:
            reading = self._read.pop(segment, None) or self._reader.submit(self._collected, segment)
            self._read[segment] = reading
            while len(self._read) > 2:
                self._read.pop(next(iter(self._read)))
        return reading

    def read(self, segment: tuple[int, ...]) -> tuple[Table, Any]:
        """Returns the table of a segment and the report of what was left out of it.

        Raises:
            UserError: a file is missing or damaged.
        """
        return self.start_reading(segment).result()

    def _collected(self, segment: tuple[int, ...]) -> tuple[Table, Any]:
        try:
            self.units.select(segment)
            table, report = self.collect()
        except tf.errors.OpError:
            self.units.explain(segment)
            raise
        if self.units.countable and report.total != sum(self.units.sizes[unit] for unit in segment):
            self.units.explain(segment)
        return table, report


class BatchStream:
    """Endless batches of the segments of a corpus, which can begin at any position.

    Args:
        segments: the corpus.
        bounds, sizes, together: as in `plan_batches`.
        seed: decides the order, with the numbers of epoch and segment.
        name: what the corpus is, for messages.
        told: called with the report of the whole corpus after an epoch that was read from its beginning, if the corpus
            is not in memory, whose report is known before.
        rearrange: changes a batch at random. Its generator depends on the seed and the place of the batch alone.

    Attributes:
        fault: the error of a user that ended the last dataset. TensorFlow passes on no more than its text.
    """

    def __init__(
        self,
        segments: Segments,
        bounds: Sequence[int],
        sizes: Sequence[int],
        together: int,
        seed: int,
        name: str,
        told: Callable[[Any], None],
        rearrange: Callable[[dict[str, np.ndarray], np.random.Generator], dict[str, np.ndarray]] | None = None,
    ):
        self.segments, self.bounds, self.sizes, self.together = segments, bounds, sizes, together
        self.seed, self.name, self.told = seed, name, told
        self.rearrange = rearrange
        self.fault: UserError | None = None
        self._has_told = segments.whole
        self._ends: list[tuple[int, dict[str, int]]] = [(0, dict(_START))]

    def dataset(self, position: Mapping[str, Any] | None = None) -> tf.data.Dataset:
        """Opens the endless batches from a position.

        Args:
            position: from `position`; None for the beginning.

        Raises:
            UserError: the position is not valid, or a file of its segment is missing or damaged.
        """
        start = dict(_START) if position is None else checked_position(position)
        self._ends = [(0, start)]
        segments = self.segments.of_epoch(start["epoch"])
        table, _ = self.segments.read(segments[min(start["segment"], len(segments) - 1)])

        return generated_batches(self, lambda: self._batches(start), table.batch_signature())

    def position(self, count: int) -> dict[str, int]:
        """Returns the position after `count` batches of the dataset that was opened last, as values for JSON."""
        # The dataset is ahead: it may have begun a segment of which no batch is drawn yet.
        drawn, start = next(end for end in reversed(self._ends) if end[0] <= count)
        return {**start, "batch": start["batch"] + count - drawn}

    def _batches(self, start: Mapping[str, int]) -> Iterator[dict[str, np.ndarray]]:
        # Each iterator notes ends of its own. The last one counts.
        ends = self._ends = [(0, dict(start))]
        drawn, epoch, first, skipped = 0, start["epoch"], start["segment"], start["batch"]
        while True:
            segments, reports = self.segments.of_epoch(epoch), []
            for number in range(first, len(segments)):
                table, report = self.segments.read(segments[number])
                following = segments[number + 1] if number + 1 < len(segments) else self.segments.of_epoch(epoch + 1)[0]
                self.segments.start_reading(following)
                reports.append(report)
                random = np.random.default_rng([self.seed, epoch, number + 1])
                plan = plan_batches(table.lengths, self.bounds, self.sizes, random, self.together)
                for index, indices in enumerate(plan[skipped:], start=skipped):
                    batch = table.batch(indices)
                    if self.rearrange:
                        place = [self.seed, epoch, number + 1, index + 1]
                        batch = self.rearrange(batch, np.random.default_rng(place))
                    yield batch
                    drawn += 1
                last = number + 1 == len(segments)
                following_place = {"epoch": epoch + last, "segment": 0 if last else number + 1, "batch": 0}
                ends.append((drawn, following_place))
                skipped = 0
            if not first:
                self._tell(reports)
            first, skipped, epoch = 0, 0, epoch + 1

    def _tell(self, reports: list[Any]) -> None:
        total = reports[0]
        for report in reports[1:]:
            total += report
        if not total.kept:
            raise UserError(f"{self.name}: no example is left to use: {total}")
        if not self._has_told:
            self._has_told = True
            self.told(total)


def generated_batches(
    stream: Any, batches: Callable[[], Iterator[dict[str, np.ndarray]]], signature: Any
) -> tf.data.Dataset:
    """Returns a dataset of the batches of a stream, which keeps an error of the user that ends it as its `fault`.

    Args:
        stream: has the attribute `fault`. TensorFlow passes on no more than the text of an error.
        batches: begins the batches, each time anew.
        signature: of a batch.
    """

    def noted() -> Iterator[dict[str, np.ndarray]]:
        try:
            yield from batches()
        except UserError as error:
            stream.fault = error
            raise

    return tf.data.Dataset.from_generator(noted, output_signature=signature)


def checked_position(position: Mapping[str, Any]) -> dict[str, int]:
    """The position in a corpus that values from JSON are.

    Raises:
        UserError: they are none.
    """
    if set(position) != set(_START) or not all(type(value) is int and value >= 0 for value in position.values()):
        raise UserError(
            f"the position in the training data must have the whole numbers {', '.join(_START)}, got "
            f"{dict(position)!r}; train again in a new folder"
        )
    return {key: position[key] for key in _START}
