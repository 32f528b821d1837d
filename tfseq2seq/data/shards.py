"""TFRecord shards of recordings: decoded and resampled once, read fast ever after.

Each record has the features "audio" (little-endian int16 samples), "rate" (samples a second), "target" (text) and
"name". Samples of 16 bits lose at most half a quantum, 2^-16 of full scale, of what decoding gave, and a whole one at
the very top: recordings that were of 16 bits and at the rate wanted lose nothing.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.errors import UserError
from tfseq2seq.files import partial_name

_FULL_SCALE = 32768
# Bytes around each TFRecord: its length, and checksums of the length and of the data.
_FRAME = 16
_FEATURES = {"audio": "bytes_list", "rate": "int64_list", "target": "bytes_list", "name": "bytes_list"}


@dataclass(frozen=True)
class ShardReport:
    """What `write_shards` wrote.

    Attributes:
        shards: the files.
        utterances: how many are in them.
        seconds: how long they are together.
        faults: (name of the utterance, message that names the file) of each one that could not be read.
    """

    shards: tuple[Path, ...]
    utterances: int
    seconds: float
    faults: tuple[tuple[str, str], ...]


def write_shards(
    utterances: Sequence[Utterance],
    folder: str | Path,
    rate: int,
    shard_seconds: float = 600.0,
    log: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> ShardReport:
    """Writes utterances to `00000-of-0000N.tfrecord` and so on, in their order; see the top of this module.

    The files come to `folder` once all of them are whole. An utterance that cannot be read is left out.

    Args:
        utterances: from `read_manifest`.
        folder: where to; made if missing. It must have no shards yet.
        rate: samples a second in the shards.
        shard_seconds: a shard ends with the utterance that brings it to this length.
        log: takes a line for each utterance left out, and one at the end that sums up.
        progress: whether to show a bar on standard error; None: where that is a terminal.

    Raises:
        UserError: `folder` has shards or cannot be written to, or no utterance can be read.
    """
    folder = Path(folder)
    if any(folder.glob("*.tfrecord")):
        raise UserError(f"{folder}: it has shards (*.tfrecord) already; give another folder, or delete them first")
    aside, faults = partial_name(folder), Faults()
    try:
        aside.mkdir(parents=True, exist_ok=True)
        with _bar(len(utterances), sys.stderr.isatty() if progress is None else progress) as advance:
            lengths = _write(utterances, aside, rate, shard_seconds, faults, advance)
        if not lengths:
            reason = faults.found[0][1] if faults.found else "none is given"
            raise UserError(
                f"{folder}: none of {len(utterances)} utterances can be read, and none is written: {reason}"
            )
        names = _moved(aside, folder, len(lengths))
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{folder}: writing it failed: {_reason(error)}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    count, seconds = sum(count for count, _ in lengths), sum(samples for _, samples in lengths) / rate
    report = ShardReport(tuple(folder / name for name in names), count, seconds, tuple(faults.found))
    if log is not None:
        for _, message in report.faults:
            log(message)
        log(f"{folder}: {count} utterances, {seconds:.0f} s, {len(names)} shards; {len(report.faults)} left out")
    return report


def shard_utterances(pattern: str, rate: int) -> tuple[tf.data.Dataset, int]:
    """Opens shards, after reading all of them once to check them.

    Args:
        pattern: a file or glob of files that `write_shards` wrote.
        rate: samples a second that they must have.

    Returns:
        A dataset of (samples float32 [N] in [-1, 1), text string scalar, name string scalar), in the order of the
        files' names, and how many there are.

    Raises:
        UserError: no file matches, one is damaged or of another rate, or a shard of a set is missing.
    """
    files = sorted(glob.glob(pattern))
    if not files:
        raise UserError(f"no file matches {pattern}")
    for file in files:
        _check_set(Path(file))
    count = sum(_checked(file, rate) for file in files)
    if not count:
        raise UserError(f"{pattern}: there is no utterance in it")
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in ("audio", "target", "name")}

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, features)
        samples = tf.cast(tf.io.decode_raw(example["audio"], tf.int16, little_endian=True), tf.float32) / _FULL_SCALE
        return samples, example["target"], example["name"]

    return tf.data.TFRecordDataset(files).map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True), count


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(
    utterances: Sequence[Utterance],
    aside: Path,
    rate: int,
    shard_seconds: float,
    faults: Faults,
    advance: Callable[[int], None],
) -> list[tuple[int, int]]:
    """Writes shards named 0, 1, ...; returns the utterances and the samples in each."""
    lengths: list[tuple[int, int]] = []
    writer: tf.io.TFRecordWriter | None = None
    written = 0
    try:
        for samples, target, name in manifest_utterances(utterances, rate, faults).as_numpy_iterator():
            if writer is None:
                writer = tf.io.TFRecordWriter(str(aside / str(len(lengths))))
                lengths.append((0, 0))
            writer.write(_record(samples, target, name, rate))
            written += 1
            lengths[-1] = (lengths[-1][0] + 1, lengths[-1][1] + len(samples))
            if lengths[-1][1] >= shard_seconds * rate:
                writer.close()
                writer = None
            advance(written + len(faults.found))
    finally:
        if writer is not None:
            writer.close()
    return lengths


def _record(samples: np.ndarray, target: bytes, name: bytes, rate: int) -> bytes:
    quanta = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in (("audio", quanta.tobytes()), ("target", target), ("name", name))
    }
    feature["rate"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[rate]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _moved(aside: Path, folder: Path, count: int) -> list[str]:
    """Names the shards, now that it is known how many there are, and brings them to `folder`."""
    names = [f"{number:05}-of-{count:05}.tfrecord" for number in range(count)]
    for number, name in enumerate(names):
        os.replace(aside / str(number), aside / name)
    if folder.is_dir() and any(folder.iterdir()):
        for name in names:
            os.replace(aside / name, folder / name)
    else:
        os.replace(aside, folder)
    return names


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    if not shown:
        yield lambda done: None
        return
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
    ) as bar:
        task = bar.add_task("writing shards", total=total)
        yield lambda done: bar.update(task, completed=done)


# ---- checking -------------------------------------------------------------------------------------------------------


def _check_set(file: Path) -> None:
    """A shard's name tells how many there are; training on a part of them would go unnoticed."""
    named = re.fullmatch(r"\d{5}-of-(\d{5})\.tfrecord", file.name)
    for number in range(int(named.group(1)) if named else 0):
        other = file.with_name(f"{number:05}-of-{named.group(1)}.tfrecord") if named else file
        if not other.exists():
            raise UserError(f"{file}: of its set {other.name} is missing; copy it there, or write the shards again")


def _checked(file: str, rate: int) -> int:
    """Reads a shard through and returns how many utterances are in it."""
    count = size = 0
    try:
        for serialized in tf.data.TFRecordDataset(file).as_numpy_iterator():
            count, size = count + 1, size + len(serialized) + _FRAME
            _check_record(serialized, f"{file}, record {count}", rate)
    except tf.errors.OpError as error:
        raise UserError(f"{file}: damaged after record {count}: {_reason(error)}") from None
    if size != os.path.getsize(file):
        # TensorFlow takes a file cut within the next record's length for one that ends before it.
        raise UserError(f"{file}: damaged after record {count}: it ends within a record")
    return count


def _check_record(serialized: bytes, index: str, rate: int) -> None:
    try:
        feature = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        raise UserError(f"{index}: not a tf.train.Example") from None
    for key, kind in _FEATURES.items():
        if key not in feature or len(getattr(feature[key], kind).value) != 1:
            raise UserError(
                f"{index}: no utterance: it lacks the feature {key!r}, or holds another kind of value in it"
            )
    stated = feature["rate"].int64_list.value[0]
    if stated != rate:
        raise UserError(f"{index}: {stated} samples a second, and {rate} are asked for; write the shards at that rate")
    audio = feature["audio"].bytes_list.value[0]
    if not audio or len(audio) % 2:
        raise UserError(f"{index}: {len(audio)} bytes of audio; two for each sample are expected")
    try:
        feature["target"].bytes_list.value[0].decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{index}: text that is not UTF-8") from None


def _reason(error: OSError | tf.errors.OpError) -> str:
    """The cause in one line, without the names of TensorFlow's operations."""
    text = str(error.message) if isinstance(error, tf.errors.OpError) else error.strerror or str(error)
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", text.split("\n")[0])
