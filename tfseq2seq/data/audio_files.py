"""Reading of recordings of all supported formats as mono float32 samples in [-1, 1] at a given sample rate.

WAV files are decoded by the same function as in exported models (`features.wav`), and all recordings are resampled by
the same function (`features.resampling`). WAV files of other codings, such as ADPCM, and all other formats are decoded
by soundfile, which reads those of libsndfile. Without it, tensorflow-io decodes FLAC, MP3 and Ogg files.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.manifests import Utterance
from tfseq2seq.data.recording_ends import declared_frames, first_recording, missing, mp3_frame, tag_size
from tfseq2seq.errors import UserError
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.wav import (
    ANOTHER,
    HIGHEST_RATE,
    LOWEST_RATE,
    MAGICS,
    NO_SAMPLES,
    NOT_FINITE,
    rate_fault,
    read_wav,
    wav_coding,
    wav_warning,
)

_READ_FRAMES = 1 << 20
# A segment may end this number of seconds after the end of its recording, because times in manifests are rounded.
_OVERSHOOT = 0.5
_NEEDS_SOUNDFILE = "needs soundfile: `pip install 'tfseq2seq[audio]'`"
# What WAV files call their codings, for messages.
_WAV_CODINGS = {2: "Microsoft ADPCM", 17: "IMA ADPCM", 20: "G.723 ADPCM", 49: "GSM 6.10", 64: "G.721 ADPCM", 85: "MP3"}


def decode_audio(contents: bytes, name: str, rate: int) -> np.ndarray:
    """Decodes a recording from the bytes of its file.

    Args:
        contents: a WAV, FLAC, MP3 or Ogg (Vorbis or Opus) file, or any other that libsndfile reads, such as AIFF, AU,
            CAF and W64. The format is detected from the first bytes.
        name: the name of the file in messages, such as its path.
        rate: the sample rate of the result in Hz.

    Returns:
        float32 [N] in [-1, 1]: the mean of the channels, at `rate`.

    Raises:
        UserError: the file is damaged, has no samples or samples that are not finite, has an unsupported format, or has
            a format that needs a package which is not installed.

    Warns:
        UserWarning: the file ends before its recording does, or holds another one after it.
    """
    samples, fault, warning = _samples(*_open_contents(contents), 0.0, 0.0, rate)
    if message := fault.numpy().decode("utf-8"):
        raise UserError(f"{name}: {message}")
    if message := warning.numpy().decode("utf-8"):
        warnings.warn(f"{name}: {message}", UserWarning, stacklevel=2)
    return samples.numpy()


def read_audio(path: str | Path, rate: int) -> np.ndarray:
    """Reads the samples [N] of an audio file, see `decode_audio`.

    Raises:
        UserError: as for `decode_audio`, or the file cannot be read.
    """
    try:
        contents = _contents(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {_unreadable(error)}") from None
    return decode_audio(contents, str(path), rate)


class Faults:
    """Collects the utterances that a dataset could not read, and those that it read although they are not complete.

    Each one is listed once, even after several passes.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}
        self._warnings: dict[int, tuple[str, str]] = {}

    def clear(self) -> None:
        """Forgets all of them, before other utterances are read."""
        self._found.clear()
        self._warnings.clear()

    def add(self, index: int, name: str, message: str) -> None:
        """Adds an error message for the utterance at `index` in its manifest."""
        self._found[index] = (name, message)

    def warn(self, index: int, name: str, message: str) -> None:
        """Adds a message on what is missing from the utterance at `index`, or comes after it."""
        self._warnings[index] = (name, message)

    @property
    def found(self) -> list[tuple[str, str]]:
        """Pairs of the name of the utterance and a message that names the file, in the order of the manifest."""
        return [fault for _, fault in sorted(self._found.items())]

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """The same of utterances that were read. Each message tells what was not."""
        return [warning for _, warning in sorted(self._warnings.items())]


def manifest_utterances(
    utterances: Sequence[Utterance],
    rate: int,
    faults: Faults | None = None,
    indices: tf.data.Dataset | None = None,
) -> tf.data.Dataset:
    """Returns a dataset that reads the utterances of a manifest on demand, several in parallel, in order.

    Utterances that cannot be read are skipped. Every pass over the dataset has the same elements.

    Args:
        utterances: the utterances from `read_manifest`.
        rate: the sample rate of the result in Hz.
        faults: collects the skipped utterances and the reasons, and warnings about others.
        indices: which utterances to read, and in what order: int64 scalars; by default, all of them.

    Returns:
        A dataset of {"source": samples float32 [N] in [-1, 1], "target": text, "name": string}.
    """
    collected = Faults() if faults is None else faults

    def opened(index: int) -> tuple[Any, np.ndarray, np.int32, bytes, bytes]:
        try:
            contents, samples, file_rate, fault, warning = _open_contents(_contents(utterances[index].path))
        except (OSError, ValueError) as error:
            contents, samples, file_rate, fault, warning = b"", _NOTHING, 0, _unreadable(error).encode(), b""
        # An object array, because a numpy array of bytes would lose trailing zeros.
        return np.array(contents, object), samples, np.int32(file_rate), fault, warning

    def note(index: int, fault: bytes, warning: bytes) -> np.bool_:
        utterance = utterances[index]
        add, message = (collected.add, fault) if fault else (collected.warn, warning)
        add(int(index), utterance.name, f"{utterance.path}: {message.decode('utf-8')}")
        return np.bool_(not fault)

    def read(index: tf.Tensor, start: tf.Tensor, seconds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, samples, file_rate, fault, warning = tf.numpy_function(
            opened, [index], [tf.string, tf.float32, tf.int32, tf.string, tf.string]
        )
        contents, file_rate, fault, warning = (
            tf.ensure_shape(scalar, []) for scalar in (contents, file_rate, fault, warning)
        )
        samples, fault, warning = _samples(
            contents, tf.ensure_shape(samples, [None, None]), file_rate, fault, warning, start, seconds, rate
        )
        silent = (fault == b"") & (warning == b"")
        decoded = tf.cond(silent, lambda: True, lambda: tf.numpy_function(note, [index, fault, warning], tf.bool))
        return samples, tf.ensure_shape(decoded, [])

    starts = tf.constant([utterance.start for utterance in utterances], tf.float64)
    seconds = tf.constant([utterance.seconds for utterance in utterances], tf.float64)
    texts = tf.constant([utterance.text for utterance in utterances], tf.string)
    names = tf.constant([utterance.name for utterance in utterances], tf.string)
    return (
        (tf.data.Dataset.range(len(utterances)) if indices is None else indices)
        .map(
            lambda index: (*read(index, starts[index], seconds[index]), texts[index], names[index]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .filter(lambda samples, decoded, text, name: decoded)
        .map(lambda samples, decoded, text, name: {"source": samples, "target": text, "name": name})
    )


_Opened = tuple[bytes, np.ndarray, int, bytes, bytes]
_NOTHING = np.zeros([0, 1], np.float32)


def _contents(path: str | Path) -> bytes:
    """Returns the bytes of a file, or of a pipe up to its end. A device has no end."""
    if str(path) != "/dev/stdin" and (stat.S_ISCHR(mode := os.stat(path).st_mode) or stat.S_ISBLK(mode)):
        raise ValueError("it is a device, not a file")
    return Path(path).read_bytes()


# As a graph: one call for each file instead of one for each of its operations.
_wav_coding = tf.function(wav_coding, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def _open_contents(contents: bytes) -> _Opened:
    """Prepares a file for `_samples`: returns the bytes of a WAV file, or samples [N, C] and their rate, or an error
    message; and a warning about samples that are not complete.
    """
    try:
        if contents[:4] in MAGICS:
            tag, supported = (part.numpy() for part in _wav_coding(contents))
            if supported:
                return contents, _NOTHING, 0, b"", b""
            samples, rate, warning = _decode_other_wav(contents, int(tag))
        else:
            samples, rate, warning = _decode_compressed(contents)
        if not len(samples):
            raise UserError(NO_SAMPLES + (f": the file {warning}" if warning else ""))
        if not np.isfinite(samples).all():
            raise UserError(NOT_FINITE)
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(rate_fault(rate).numpy().decode())
    except UserError as error:
        return b"", _NOTHING, 0, str(error).encode(), b""
    return b"", samples, rate, b"", warning.encode()


@tf.function(
    input_signature=[
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([], tf.float64),
        tf.TensorSpec([], tf.float64),
        tf.TensorSpec([], tf.int32),
    ],
    autograph=False,
)
def _samples(
    contents: tf.Tensor,
    samples: tf.Tensor,
    file_rate: tf.Tensor,
    fault: tf.Tensor,
    warning: tf.Tensor,
    start: tf.Tensor,
    seconds: tf.Tensor,
    rate: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Converts the result of `_open_contents` to samples [N] at `rate`, an error message or "", and a warning or "".

    The samples begin at `start` and last `seconds`; 0 means up to the end of the recording. What is missing behind a
    segment, or comes after the recording it is from, is no matter of the segment.
    """
    samples, file_rate, fault, warning = tf.cond(
        tf.strings.length(contents) > 0,
        lambda: read_wav(contents),
        lambda: (samples, file_rate, fault, warning),
    )
    samples_per_second, available = tf.cast(file_rate, tf.float64), tf.shape(samples, tf.int64)[0]
    end = tf.cast(available, tf.float64) / tf.maximum(samples_per_second, 1.0)
    stop = tf.where(seconds > 0.0, start + seconds, tf.maximum(start, end))
    # Times are limited first: no integer holds the samples of a far larger one.
    first, last = (
        tf.minimum(tf.cast(tf.round(tf.minimum(time, end) * samples_per_second), tf.int64), available)
        for time in (start, stop)
    )
    message = ("no segment from ", _shown(start), " to ", _shown(stop), " s: the recording ends at ", _shown(end), " s")
    outside = (fault == b"") & ((first >= last) | (stop > end + _OVERSHOOT))
    fault = tf.where(outside, tf.strings.join(message), fault)
    last = tf.where(outside, first, last)
    warning = tf.where((fault == b"") & ((seconds == 0.0) | (stop > end)), warning, b"")
    return standardized(samples[first:last], file_rate, rate), fault, warning


def _shown(seconds: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(seconds, precision=2)


def _unreadable(error: OSError | ValueError) -> str:
    return f"cannot be read ({getattr(error, 'strerror', '') or error})"


# ---- compressed formats ---------------------------------------------------------------------------------------------


def _decode_other_wav(contents: bytes, tag: int) -> tuple[np.ndarray, int, str]:
    """Decodes a WAV file with a coding that `decode_wav` does not support."""
    name = f"WAV format {tag}" + (f" ({_WAV_CODINGS[tag]})" if tag in _WAV_CODINGS else "")
    if _soundfile() is None:
        raise UserError(f"{name} {_NEEDS_SOUNDFILE}")
    samples, rate, _ = _by_soundfile(first_recording(contents, name), name)
    return samples, rate, wav_warning(contents).numpy().decode()


def _decode_compressed(contents: bytes) -> tuple[np.ndarray, int, str]:
    """Decodes a file that is not WAV, with soundfile or tensorflow-io: samples [N, C], their rate, and a warning."""
    format_name = _format(contents)
    alone = first_recording(contents, format_name)
    if _soundfile() is not None:
        samples, rate, warning = _by_soundfile(alone, format_name)
    else:
        samples, rate = _by_tensorflow_io(alone, format_name)
        warning = missing(alone, format_name, len(samples), rate, cut=False)
    return samples, rate, warning or (ANOTHER if len(alone) < len(contents) else "")


def _format(contents: bytes) -> str:
    if not contents:
        raise UserError("the file is empty (0 bytes)")
    if contents[:4] == b"fLaC":
        return "FLAC"
    if contents[:4] == b"OggS":
        return "Ogg Opus" if b"OpusHead" in contents[:512] else "Ogg"
    if contents[:4] == b"FORM" and contents[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if contents[:3] == b"ID3" or mp3_frame(contents[:4]):
        return "MP3"
    if contents[:7] == b"NIST_1A":
        return "SPHERE"
    names = {b"riff": "W64", b".snd": "AU", b"dns.": "AU", b"caff": "CAF"}
    return names.get(contents[:4]) or _other_format(contents)


def _other_format(contents: bytes) -> str:
    """Returns the name of a format that libsndfile detects."""
    if (soundfile := _soundfile()) is not None:
        try:
            return str(soundfile.info(_Bytes(contents)).format)
        except (soundfile.LibsndfileError, ValueError):
            pass
    raise UserError(
        "must be a WAV, FLAC, MP3, Ogg or AIFF file, or with soundfile (`pip install 'tfseq2seq[audio]'`) another one "
        "of libsndfile, got other first bytes (samples without a header are not supported); convert the file, for "
        "example with `ffmpeg -i old new.wav`"
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError if the libsndfile library is missing
        return None
    return soundfile


class _Bytes(io.BytesIO):
    """A file in memory for soundfile, which prints the traceback of an exception that its file raises.

    In damaged files libsndfile seeks places before the first byte.
    """

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(ValueError, OverflowError):
            super().seek(offset, whence)
        return self.tell()


def _by_soundfile(contents: bytes, format_name: str) -> tuple[np.ndarray, int, str]:
    soundfile = _soundfile()
    try:
        opened = _Bytes(contents)
        with soundfile.SoundFile(opened) as file:
            rate = file.samplerate
            blocks, cut = _blocks(file, lambda: opened.tell() == len(contents), soundfile.LibsndfileError)
    except (soundfile.LibsndfileError, ValueError) as error:
        reason = getattr(error, "error_string", "")
        raise UserError(f"the {format_name} file is damaged or truncated{f' ({reason})' if reason else ''}") from None
    samples = np.concatenate(blocks)
    return samples, rate, missing(contents, format_name, len(samples), rate, cut)


def _blocks(file: Any, at_end: Callable[[], bool], failed: type[Exception]) -> tuple[list[np.ndarray], bool]:
    """Reads all samples, and tells whether the file is cut off within some. Damage before its end is an error.

    The header may declare a wrong number of frames, or none. The file is therefore read in blocks.
    """
    # Seeking to the position after each block is disabled, because it fails at the end of such a file.
    file.seekable = lambda: False
    size, blocks = min(max(file.frames, 0) + 4096, _READ_FRAMES), []
    while True:
        block = np.full([size, file.channels], np.nan, np.float32)
        try:
            blocks.append(file.read(out=block))
        except failed:
            # What was read before the error is in the block, but its length is lost with the exception.
            blocks.append(block[~np.isnan(block).any(axis=1)])
            if not at_end() or not any(map(len, blocks)):
                raise
            return blocks, True
        if not len(blocks[-1]):
            return blocks, False


def _by_tensorflow_io(contents: bytes, format_name: str) -> tuple[np.ndarray, int]:
    """Decodes FLAC, MP3 and Ogg Vorbis. The operations do not return the rate, so it is read from the headers."""
    if format_name not in ("FLAC", "MP3", "Ogg"):
        raise UserError(f"{format_name} {_NEEDS_SOUNDFILE}")
    try:
        import tensorflow_io

        audio, scale = tensorflow_io.audio, 1.0
        decode: Callable[..., tf.Tensor]
        if format_name == "FLAC":
            if len(contents) < 42:
                raise UserError("the FLAC file is truncated within its header")
            bits = contents[20] % 2 * 16 + contents[21] // 16 + 1
            if bits not in (16, 24) or not declared_frames(contents):
                raise UserError(f"FLAC with {bits} bits, or without a declared length, {_NEEDS_SOUNDFILE}")
            kind, scale = (tf.int16, 2.0**-15) if bits == 16 else (tf.int32, 2.0**-31)
            decode, rate = functools.partial(audio.decode_flac, dtype=kind), int.from_bytes(contents[18:21], "big") >> 4
            contents += _start_of_frame(contents)
        elif format_name == "MP3":
            frame = mp3_frame(contents[tag_size(contents) :][:4])
            decode, rate = audio.decode_mp3, frame.rate if frame else 0
        else:
            head = contents.find(b"\x01vorbis")
            decode, rate = audio.decode_vorbis, int.from_bytes(contents[head + 12 : head + 16], "little")
        samples = decode(contents).numpy().astype(np.float32) * np.float32(scale)
    except (ImportError, NotImplementedError):  # NotImplementedError if tensorflow-io does not match this TensorFlow
        raise UserError(f"{format_name} {_NEEDS_SOUNDFILE}") from None
    except (tf.errors.OpError, ValueError):
        raise UserError(f"the {format_name} file is damaged or truncated") from None
    return samples, rate


def _start_of_frame(contents: bytes) -> bytes:
    """Returns the first bytes of the first frame of a FLAC file, which are appended to the file.

    After a complete file they are not read. If the file has fewer frames than its header declares, tensorflow-io finds
    an incomplete frame in them and reports an error. Without these bytes it would wait for more data forever.
    """
    index, last = 4, False
    while not last and index < len(contents):
        last = contents[index] >= 0x80
        index += 4 + int.from_bytes(contents[index + 1 : index + 4], "big")
    return contents[index : index + 32]
