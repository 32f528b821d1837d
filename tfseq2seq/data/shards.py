"""TFRecord shards of recordings, which are decoded and resampled only once, when the shards are written.

Each record has the features "audio" (little-endian int16 samples), "rate" (the sample rate in Hz), "target" (the
transcript) and "name". Rounding to 16 bits changes decoded samples by at most half a quantization step, 2^-16 of full
scale, and by one step at the maximum. Recordings that have 16 bits and the desired sample rate do not change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfseq2seq.data.audio_files import Faults, manifest_utterances
from tfseq2seq.data.manifests import Utterance
from tfseq2seq.data.records import content_size, records_of_files
from tfseq2seq.data.shard_index import INDEX, Shard, indexed_shards, record_files, write_index
from tfseq2seq.errors import UserError
from tfseq2seq.files import scratch_folder
from tfseq2seq.progress import progress_bar

_FULL_SCALE = 32768
# The number of bytes around each TFRecord: its length, and checksums of the length and of the data.
_FRAME = 16
_FEATURES = {"audio": "bytes_list", "rate": "int64_list", "target": "bytes_list", "name": "bytes_list"}


@dataclass(frozen=True)
class ShardReport:
    """The result of `write_shards`.

    Attributes:
        shards: the files.
        utterances: the number of utterances in the files.
        seconds: the total duration of the utterances in seconds.
        faults: the name and the error message, with the file, of each utterance that could not be read.
        warnings: the same of each utterance that was read and is not complete.
    """

    shards: tuple[Path, ...]
    utterances: int
    seconds: float
    faults: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...] = ()


def write_shards(
    utterances: Sequence[Utterance],
    folder: str | Path,
    rate: int,
    shard_seconds: float = 600.0,
    log: Callable[[str], None] | None = None,
    progress: bool | None = None,
) -> ShardReport:
    """Writes utterances to the shards `00000-of-0000N.tfrecord` and so on, in order. See the module docstring.

    The files are moved to `folder` when all of them are complete. Utterances that cannot be read are skipped.

    Args:
        utterances: the utterances from `read_manifest`.
        folder: the folder to write to. It is created if it does not exist, and must not have shards.
        rate: the sample rate of the shards in Hz.
        shard_seconds: a shard ends after the utterance with which it reaches this duration in seconds.
        log: called with a line for each utterance that is skipped or not complete, and with a summary at the end.
        progress: whether to show a progress bar on standard error. None shows it if standard error is a terminal.

    Raises:
        UserError: `folder` has shards or cannot be written, or no utterance can be read.
    """
    folder = Path(folder)
    if any(folder.glob("*.tfrecord")):
        raise UserError(f"{folder}: must not have shards (*.tfrecord) yet; give another folder, or delete them first")
    faults = Faults()
    try:
        with scratch_folder(folder) as aside:
            with progress_bar("writing shards", len(utterances), progress) as advance:
                lengths = _write(utterances, aside, rate, shard_seconds, faults, advance)
            if not lengths:
                reason = faults.found[0][1] if faults.found else "there are no utterances"
                raise UserError(
                    f"{folder}: at least one utterance must be readable, got 0 of {len(utterances)}; no shards are "
                    f"written ({reason})"
                )
            names = _move_shards(aside, folder, [count for count, _ in lengths], rate)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{folder}: cannot be written ({_reason(error)})") from None
    count, seconds = sum(count for count, _ in lengths), sum(samples for _, samples in lengths) / rate
    shards = tuple(folder / name for name in names)
    report = ShardReport(shards, count, seconds, tuple(faults.found), tuple(faults.warnings))
    if log is not None:
        for _, message in report.faults:
            log(message)
        for _, message in report.warnings:
            log(f"warning: {message}")
        incomplete = f", {len(report.warnings)} incomplete" if report.warnings else ""
        skipped = f"{len(report.faults)} skipped{incomplete}"
        log(f"{folder}: {count} utterances, {seconds:.0f} s, {len(names)} shards; {skipped}")
    return report


def shard_utterances(pattern: str, rate: int) -> tuple[tf.data.Dataset, int]:
    """Opens shards. Those without an index are read once first to check them.

    Args:
        pattern: the name or a glob pattern of files from `write_shards`, or their folder.
        rate: the sample rate in Hz that they must have.

    Returns:
        A dataset of {"source": samples float32 [N] in [-1, 1), "target": text, "name": string}, in the order of the
        file names; and the number of utterances.

    Raises:
        UserError: no file matches the pattern, a file is damaged or has a different rate, or a shard of a set is
            missing.
    """
    shards = find_shards(pattern, rate)
    return utterances_of_files([str(shard.path) for shard in shards]), sum(shard.examples for shard in shards)


def find_shards(pattern: str, rate: int) -> list[Shard]:
    """Finds and checks shards, as `shard_utterances`."""
    files = record_files(pattern)
    if not files:
        raise UserError(f"{pattern}: no file matches")
    for file in files:
        _check_set(Path(file))
    shards = indexed_shards(files, "recordings", rate)
    if shards is None:
        shards = [Shard(Path(file), check_recordings(file, rate), os.path.getsize(file)) for file in files]
    if not sum(shard.examples for shard in shards):
        raise UserError(f"{pattern}: must have at least one utterance, found no utterances")
    return shards


def utterances_of_files(files: Sequence[str]) -> tf.data.Dataset:
    """The utterances of shards, in order; see `shard_utterances`."""
    return parsed_utterances(records_of_files(files))


def parsed_utterances(records: tf.data.Dataset) -> tf.data.Dataset:
    """The utterances of serialized records."""
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in ("audio", "target", "name")}

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, features)
        samples = tf.cast(tf.io.decode_raw(example["audio"], tf.int16, little_endian=True), tf.float32) / _FULL_SCALE
        return {"source": samples, "target": example["target"], "name": example["name"]}

    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def transcripts_of_files(files: Sequence[str]) -> tf.data.Dataset:
    """The transcripts of shards, in order."""
    features = {"target": tf.io.FixedLenFeature([], tf.string)}
    return records_of_files(files).map(lambda serialized: tf.io.parse_single_example(serialized, features)["target"])


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(
    utterances: Sequence[Utterance],
    aside: Path,
    rate: int,
    shard_seconds: float,
    faults: Faults,
    advance: Callable[[int], None],
) -> list[tuple[int, int]]:
    """Writes shards named 0, 1, ... and returns the numbers of utterances and samples in each."""
    lengths: list[tuple[int, int]] = []
    writer: tf.io.TFRecordWriter | None = None
    done = 0
    try:
        for example in manifest_utterances(utterances, rate, faults).as_numpy_iterator():
            samples = example["source"]
            if writer is None:
                writer = tf.io.TFRecordWriter(str(aside / str(len(lengths))))
                lengths.append((0, 0))
            writer.write(_record(samples, example["target"], example["name"], rate))
            lengths[-1] = (lengths[-1][0] + 1, lengths[-1][1] + len(samples))
            if lengths[-1][1] >= shard_seconds * rate:
                writer.close()
                writer = None
            # Utterances that cannot be read are not among the examples, but are done too.
            before, done = done, sum(count for count, _ in lengths) + len(faults.found)
            advance(done - before)
    finally:
        if writer is not None:
            writer.close()
    return lengths


def _record(samples: np.ndarray, target: bytes, name: bytes, rate: int) -> bytes:
    quantized = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in (("audio", quantized.tobytes()), ("target", target), ("name", name))
    }
    feature["rate"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[rate]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _move_shards(aside: Path, folder: Path, counts: Sequence[int], rate: int) -> list[str]:
    """Gives the shards their final names, which have the number of shards, and moves them and an index to `folder`."""
    names = [f"{number:05}-of-{len(counts):05}.tfrecord" for number in range(len(counts))]
    for number, name in enumerate(names):
        os.replace(aside / str(number), aside / name)
    shards = [Shard(aside / name, count, os.path.getsize(aside / name)) for name, count in zip(names, counts)]
    write_index(aside, "recordings", shards, rate)
    if folder.is_dir() and any(folder.iterdir()):
        for name in (*names, INDEX):
            os.replace(aside / name, folder / name)
    else:
        os.replace(aside, folder)
    return names


# ---- checking -------------------------------------------------------------------------------------------------------


def _check_set(file: Path) -> None:
    """Checks that all shards of a set exist, by the number in the file name. A missing shard would not be noticed."""
    match = re.fullmatch(r"\d{5}-of-(\d{5})\.tfrecord", file.name)
    for number in range(int(match.group(1)) if match else 0):
        missing = file.with_name(f"{number:05}-of-{match.group(1)}.tfrecord") if match else file
        if not missing.exists():
            raise UserError(
                f"{file}: {missing.name} of the same set is missing; copy it there or write the shards again"
            )


def check_recordings(file: str, rate: int) -> int:
    """Reads and checks a shard. Returns its number of utterances.

    Raises:
        UserError: the file is missing, damaged, or has something else or another rate; the message has the record.
    """
    count = size = 0
    try:
        for serialized in records_of_files([file]).as_numpy_iterator():
            count, size = count + 1, size + len(serialized) + _FRAME
            _check_record(serialized, f"{file}, record {count}", rate)
    except tf.errors.NotFoundError:
        raise UserError(f"{file}: is missing; copy it there again") from None
    except tf.errors.OpError as error:
        raise UserError(f"{file}: damaged after record {count} ({_reason(error)})") from None
    if size != content_size(file, count):
        # If a file is truncated within the length field of a record, TensorFlow reports no error.
        raise UserError(f"{file}: damaged after record {count} (the file ends within a record)")
    return count


def _check_record(serialized: bytes, location: str, rate: int) -> None:
    try:
        feature = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        raise UserError(f"{location}: must be a tf.train.Example") from None
    for key, kind in _FEATURES.items():
        if key not in feature or len(getattr(feature[key], kind).value) != 1:
            raise UserError(
                f"{location}: must be an utterance, but the feature {key!r} is missing or has a different type"
            )
    record_rate = feature["rate"].int64_list.value[0]
    if record_rate != rate:
        raise UserError(
            f"{location}: the sample rate must be {rate} Hz, got {record_rate} Hz; write the shards with this rate"
        )
    audio = feature["audio"].bytes_list.value[0]
    if not audio or len(audio) % 2:
        raise UserError(f"{location}: the audio must have 2 bytes per sample, got {len(audio)} bytes")
    try:
        feature["target"].bytes_list.value[0].decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{location}: the text is not UTF-8") from None


def _reason(error: OSError | tf.errors.OpError) -> str:
    """Returns the cause of an error in one line, without the names of TensorFlow's operations."""
    text = str(error.message) if isinstance(error, tf.errors.OpError) else error.strerror or str(error)
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", text.split("\n")[0])
