"""TFRecord files of pairs, plain or compressed (.gz), each record with the features "source" and "target"."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from tfseq2seq.errors import UserError
from tfseq2seq.files import written_aside

_CHUNK = 2048
# Bytes around each TFRecord: its length, and checksums of the length and of the data.
_FRAME = 16


def pairs_of_files(files: Sequence[str]) -> tf.data.Dataset:
    """The pairs of files, in order: {"source": string, "target": string}."""
    return pairs_without(tf.data.Dataset.from_tensor_slices(tf.constant(list(files), tf.string)).map(_all_of))


def _all_of(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return file, tf.zeros([0], tf.int64)


def pairs_without(files: tf.data.Dataset, each: int = 0) -> tf.data.Dataset:
    """The pairs of files, without those at some places: {"source": string, "target": string}.

    Args:
        files: the name of each file, and the places [N] int64 of pairs in it that are left out.
        each: the largest number of records that are read of each file; 0 for all.
    """

    def chunks(file: tf.Tensor, places: tf.Tensor) -> tf.data.Dataset:
        return (
            _parsed(_records(file).take(each or -1), _CHUNK)
            .enumerate()
            .map(lambda index, rows: remaining(index, places, *rows[:2]))
        )

    def remaining(index: tf.Tensor, places: tf.Tensor, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        own = places - index * _CHUNK
        own = tf.boolean_mask(own, (own >= 0) & (own < tf.shape(source, tf.int64)[0]))
        kept = tf.tensor_scatter_nd_update(
            tf.ones_like(source, tf.bool), own[:, tf.newaxis], tf.zeros_like(own, tf.bool)
        )
        return {"source": tf.boolean_mask(source, kept), "target": tf.boolean_mask(target, kept)}

    return files.flat_map(chunks).unbatch()


def records_of_files(files: Sequence[str]) -> tf.data.Dataset:
    """The serialized records of files, in order."""
    return tf.data.Dataset.from_tensor_slices(tf.constant(list(files), tf.string)).flat_map(_records)


def records_without(files: tf.data.Dataset) -> tf.data.Dataset:
    """The serialized records of files without those at some places; `files` is as in `pairs_without`."""

    def records(file: tf.Tensor, places: tf.Tensor) -> tf.data.Dataset:
        kept = _records(file).enumerate().filter(lambda index, _: tf.reduce_all(tf.not_equal(places, index)))
        return kept.map(lambda _, record: record)

    return files.flat_map(records)


def _records(file: tf.Tensor) -> tf.data.Dataset:
    """The records of a file, which is compressed if its name says so."""
    return tf.data.TFRecordDataset(file, tf.where(tf.strings.regex_full_match(file, r"(?s).*\.gz"), "GZIP", ""))


def files_of_units(units: tf.data.Dataset, files: Sequence[str], held: Sequence[Sequence[int]]) -> tf.data.Dataset:
    """The files of units, given by their numbers, and the places [N] of the records in each that are left out."""
    names, places = tf.constant(list(files), tf.string), tf.ragged.constant(held, dtype=tf.int64, ragged_rank=1)
    return units.map(lambda unit: (names[unit], places[unit]))


def _parsed(records: tf.data.Dataset, chunk: int) -> tf.data.Dataset:
    """Records to chunks of (source, target, bytes in the record)."""
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in ("source", "target")}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        examples = tf.io.parse_example(serialized, features)
        return examples["source"], examples["target"], tf.strings.length(serialized)

    return records.batch(chunk).map(parse)


def checked_pairs(file: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the pairs of a file.

    Raises:
        UserError: the file is missing, cut or damaged, or a record is no pair of texts; the message has the record.
    """
    records, count, size, chunk = records_of_files([file]), 0, 0, _CHUNK
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
        except tf.errors.NotFoundError:
            raise UserError(f"{file}: is missing; copy it there again") from None
        except tf.errors.OpError as error:
            if chunk == 1:
                raise UserError(
                    f"{file}: damaged or not a record of source and target, after record {count}: {reason_of(error)}"
                ) from None
            # A chunk with a fault gives none of its records; one by one they tell the place.
            chunk = 1
    if size != content_size(file, count):
        # TensorFlow takes a file cut within the next record's length for one that ends before it.
        raise UserError(f"{file}: damaged after record {count}: it ends within a record")


def content_size(file: str, count: int) -> int:
    """The bytes in a file of `count` records, after decompression."""
    if not file.endswith(".gz"):
        return os.path.getsize(file)
    size = 0
    try:
        with gzip.open(file) as content:
            while block := content.read(1 << 20):
                size += len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        # TensorFlow does not miss the checksum at the end of a compressed file.
        raise UserError(f"{file}: damaged after record {count}: {error}") from None
    return size


def reason_of(error: tf.errors.OpError) -> str:
    """TensorFlow's reason, without the names of its operations."""
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", str(error.message).split("\n")[0])


def write_records(pairs: Iterable[tuple[bytes | str, bytes | str]], path: str | Path) -> int:
    """Writes pairs to a TFRecord file, compressed if its name ends with .gz; returns how many.

    Raises:
        UserError: the file cannot be written.
    """
    count = 0
    options = tf.io.TFRecordOptions(compression_type="GZIP" if str(path).endswith(".gz") else "")
    try:
        with written_aside(path) as aside, tf.io.TFRecordWriter(str(aside), options) as writer:
            for source, target in pairs:
                features = {"source": _bytes_feature(source), "target": _bytes_feature(target)}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                # Otherwise the order of the features, and with it the compressed size, differs between processes.
                writer.write(example.SerializeToString(deterministic=True))
                count += 1
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written ({reason_of(error)})") from None
    return count


def _bytes_feature(text: bytes | str) -> tf.train.Feature:
    value = text.encode("utf-8") if isinstance(text, str) else text
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
