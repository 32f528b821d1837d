"""Pairs of raw lines from files: line files (plain or .gz), TSV tables, TFRecord.

Every file is checked once, whole, before anything is trained on it: a fault in line 900,000 is reported at the start
with its file and line, not hours later. Lines end at "\\n" only.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import random
import re
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.files import check_parallel, check_regular, expanded_path, iterate_lines, written_aside
from tfseq2seq.progress import tracked
from tfseq2seq.spec import CorpusSpec, DataSpec

_CHUNK = 2048
# Bytes around each TFRecord: its length, and checksums of the length and of the data.
_FRAME = 16


def expanded(spec: CorpusSpec) -> CorpusSpec:
    """The corpus with `~` and `$VARIABLES` in its paths replaced.

    Raises:
        UserError: a variable is not set.
    """
    paths = {field.name: expanded_path(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    return CorpusSpec(**paths)


def corpus_pairs(spec: CorpusSpec, name: str) -> tuple[tf.data.Dataset, int]:
    """Checks a corpus and opens it.

    Args:
        spec: where it is.
        name: what it is, for messages, such as "data.train".

    Returns:
        A dataset of {"source": string, "target": string}, and how many there are.

    Raises:
        UserError: nothing is given, or something is wrong in a file; the message says what and where.
    """
    spec = expanded(spec)
    if spec.records:
        files = _record_files(spec.records, f"{name}.records")
        count = _count(f"{name}.records", (pair for file in files for pair in _record_pairs(file)))
        if not count:
            raise UserError(f"{name}.records: {spec.records} holds no record")
        records = _parsed(tf.data.TFRecordDataset(files), _CHUNK)
        pairs = records.map(lambda source, target, length: {"source": source, "target": target})
        return pairs.unbatch(), count
    if spec.table:
        return _pairs(lambda: _table_rows(spec.table)), _count(f"{name}.table", _table_rows(spec.table))
    if not spec.source:
        raise UserError(f"{name}: no corpus is given; set {name}.source and {name}.target, or table, or records")
    counts = [
        _count(f"{name}.{side}", iterate_lines(path))
        for side, path in (("source", spec.source), ("target", spec.target))
    ]
    check_parallel(f"{name}: {spec.source}", counts[0], spec.target, counts[1])
    return _pairs(lambda: zip(iterate_lines(spec.source), iterate_lines(spec.target))), counts[0]


@dataclasses.dataclass(frozen=True)
class TrainingCorpora:
    """The pairs to train on and those to validate with, each a dataset of dictionaries of strings and its size.

    `held` are the places of those training pairs that were kept out to validate with.
    """

    train: tf.data.Dataset
    train_count: int
    validation: tf.data.Dataset
    validation_count: int
    held: frozenset[int] = frozenset()


def training_corpora(spec: DataSpec, seed: int) -> TrainingCorpora:
    """Checks and opens what a recipe trains on. Without validation files, `spec.holdout` training pairs serve as them.

    Args:
        spec: where the corpora are.
        seed: draws the pairs held out; equal seeds draw the same ones from the same corpus.

    Raises:
        UserError: as `corpus_pairs`, or there is nothing to validate with, or nothing left to train on.
    """
    train, count = corpus_pairs(spec.train, "data.train")
    if spec.validation.given:
        return TrainingCorpora(train, count, *corpus_pairs(spec.validation, "data.validation"))
    if not spec.holdout:
        raise UserError(
            "data.validation: no corpus is given; set data.validation.source and data.validation.target, or table, or "
            "records, or let data.holdout take pairs out of the training corpus"
        )
    return _held_out(train, count, spec, seed)


def _held_out(train: tf.data.Dataset, count: int, spec: DataSpec, seed: int) -> TrainingCorpora:
    held = held_places(count, spec.holdout, seed)
    mask = _mask(held, count)

    def part(wanted: bool) -> tf.data.Dataset:
        def chosen(index: tf.Tensor, chunk: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            size = tf.shape(next(iter(chunk.values())), tf.int64)[0]
            kept = tf.equal(mask[index * _CHUNK : index * _CHUNK + size], wanted)
            return {name: tf.boolean_mask(lines, kept) for name, lines in chunk.items()}

        # A chunk at a time: a call for each line takes more time than all other preparation of a corpus.
        return train.batch(_CHUNK).enumerate().map(chosen).unbatch()

    # Each pass over the few that are held out would read the whole corpus again.
    chunks = list(tracked(part(True).batch(_CHUNK).as_numpy_iterator(), "holding out data.train"))
    lines = {name: [line for chunk in chunks for line in chunk[name]] for name in train.element_spec}
    taken = tf.data.Dataset.from_tensor_slices({name: tf.constant(own) for name, own in lines.items()})
    return TrainingCorpora(part(False), count - spec.holdout, taken, spec.holdout, held)


def line_corpora(spec: DataSpec, seed: int) -> TrainingCorpora:
    """As `training_corpora`, of the target lines alone: datasets of {"target": string}.

    Raises:
        UserError: as there.
    """

    def lines(corpus: CorpusSpec, name: str) -> tuple[tf.data.Dataset, int]:
        if not corpus.target:
            raise UserError(f"{name}.target: no file is given; a model without a source learns from its lines")
        path = expanded(corpus).target
        dataset = _dataset(lambda: ({"target": line} for line in iterate_lines(path)), ["target"])
        return dataset, _count(f"{name}.target", iterate_lines(path))

    train, count = lines(spec.train, "data.train")
    if spec.validation.given:
        return TrainingCorpora(train, count, *lines(spec.validation, "data.validation"))
    if not spec.holdout:
        raise UserError("data.validation.target: no file is given; give one, or let data.holdout take training lines")
    return _held_out(train, count, spec, seed)


def _count(key: str, examples: Iterable[Any]) -> int:
    """The number of examples, which are checked as they are read. `key` says which they are, for the progress bar."""
    return sum(1 for _ in tracked(examples, f"checking {key}"))


def held_places(count: int, holdout: int, seed: int) -> frozenset[int]:
    """Which `holdout` of `count` training examples are kept to validate with: the same for the same seed.

    Raises:
        UserError: nothing would be left to train on.
    """
    if holdout >= count:
        raise UserError(f"data.holdout: {holdout} of {count} training pairs leave nothing to train on")
    return frozenset(random.Random(f"holdout {seed}").sample(range(count), holdout))


def without_and_with(
    dataset: tf.data.Dataset, count: int, held: frozenset[int]
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """The elements of a dataset of `count` that are not at the places `held`, and those that are."""
    mask, indices = _mask(held, count), dataset.enumerate()

    def part(wanted: bool) -> tf.data.Dataset:
        chosen = indices.filter(lambda index, example: tf.equal(tf.gather(mask, index), wanted))
        return chosen.map(lambda index, example: example)

    return part(False), part(True)


def _mask(held: frozenset[int], count: int) -> tf.Tensor:
    """[count] bool, True at the places `held`."""
    return tf.scatter_nd([[index] for index in sorted(held)], [True] * len(held), [count])


def iterate_side(spec: CorpusSpec, side: str, held: Container[int] = ()) -> Iterator[bytes]:
    """The raw source or target lines of a corpus, for learning a vocabulary, without those at the places `held`."""
    return (line for index, line in enumerate(_side(spec, side)) if index not in held)


def _side(spec: CorpusSpec, side: str) -> Iterator[bytes]:
    spec, index = expanded(spec), 0 if side == "source" else 1
    if spec.records:
        yield from (pair[index] for file in _record_files(spec.records, "records") for pair in _record_pairs(file))
    elif spec.table:
        yield from (row[index] for row in _table_rows(spec.table))
    else:
        yield from iterate_lines(spec.source if side == "source" else spec.target)


def write_records(pairs: Iterable[tuple[bytes | str, bytes | str]], path: str | Path) -> int:
    """Writes pairs to a TFRecord file with features "source" and "target"; returns how many."""
    count = 0
    try:
        with written_aside(path) as aside, tf.io.TFRecordWriter(str(aside)) as writer:
            for source, target in pairs:
                features = {"source": _bytes_feature(source), "target": _bytes_feature(target)}
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
                count += 1
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from None
    return count


def _pairs(read: Callable[[], Iterable[tuple[bytes, bytes]]]) -> tf.data.Dataset:
    return _dataset(lambda: ({"source": source, "target": target} for source, target in read()), ["source", "target"])


def _dataset(read: Callable[[], Iterable[dict[str, bytes]]], names: list[str]) -> tf.data.Dataset:
    """What `read` gives, dictionaries of strings under `names`.

    Lines that were checked and counted in one way must not be read in another: `tf.data.TextLineDataset` drops every
    "\\r" and keeps a byte order mark.
    """

    def chunks() -> Iterator[dict[str, list[bytes]]]:
        examples = iter(read())
        while chunk := list(itertools.islice(examples, _CHUNK)):
            yield {name: [example[name] for example in chunk] for name in names}

    signature = {name: tf.TensorSpec([None], tf.string) for name in names}
    return tf.data.Dataset.from_generator(chunks, output_signature=signature).unbatch()


def _table_rows(path: str) -> Iterator[tuple[bytes, bytes]]:
    for number, line in enumerate(iterate_lines(path), start=1):
        row = line.split(b"\t")
        if len(row) != 2:
            raise UserError(f"{path}, line {number}: {len(row)} columns; source, one tab, target are expected")
        yield row[0], row[1]


def _record_files(pattern: str, key: str) -> list[str]:
    files = sorted(glob.glob(pattern))
    if not files:
        raise UserError(f"{key}: no file matches {pattern}")
    for file in files:
        # TensorFlow would wait for a pipe, and read a device without end.
        check_regular(file)
    return files


def _parsed(records: tf.data.Dataset, chunk: int) -> tf.data.Dataset:
    """Records to chunks of (source, target, bytes in the record)."""
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in ("source", "target")}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        examples = tf.io.parse_example(serialized, features)
        return examples["source"], examples["target"], tf.strings.length(serialized)

    return records.batch(chunk).map(parse)


def _record_pairs(file: str) -> Iterator[tuple[bytes, bytes]]:
    records, count, size, chunk = tf.data.TFRecordDataset(file), 0, 0, _CHUNK
    while chunk:
        try:
            for rows in _parsed(records.skip(count), chunk).as_numpy_iterator():
                for source, target, length in zip(*rows):
                    count, size = count + 1, size + int(length) + _FRAME
                    source.decode("utf-8")
                    target.decode("utf-8")
                    yield source, target
            chunk = 0
        except UnicodeDecodeError:
            raise UserError(f"{file}, record {count}: text that is not UTF-8") from None
        except tf.errors.OpError as error:
            if chunk == 1:
                raise UserError(
                    f"{file}: damaged or not a record of source and target, after record {count}: {_reason(error)}"
                ) from None
            # A chunk with a fault gives none of its records; one by one they tell the place.
            chunk = 1
    if size != os.path.getsize(file):
        # TensorFlow takes a file cut within the next record's length for one that ends before it.
        raise UserError(f"{file}: damaged after record {count}: it ends within a record")


def _reason(error: tf.errors.OpError) -> str:
    """TensorFlow's reason, without the names of its operations."""
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", str(error.message).split("\n")[0])


def _bytes_feature(text: bytes | str) -> tf.train.Feature:
    value = text.encode("utf-8") if isinstance(text, str) else text
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
