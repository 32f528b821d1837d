"""Reading of recordings of all supported formats as mono float32 samples in [-1, 1] at a given sample rate.

WAV files are decoded by the same function as in exported models (`features.wav`), and all recordings are resampled by
the same function (`features.resampling`). FLAC, MP3, Ogg and AIFF files are decoded by soundfile, or by tensorflow-io
if soundfile is not installed.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfseq2seq.data.manifests import Utterance
from tfseq2seq.errors import UserError
from tfseq2seq.features.resampling import standardized
from tfseq2seq.features.wav import HIGHEST_RATE, LOWEST_RATE, NO_SAMPLES, NOT_FINITE, decode_wav, rate_fault

_READ_FRAMES = 1 << 20
# A segment may end this number of seconds after the end of its recording, because times in manifests are rounded.
_OVERSHOOT = 0.5
_NEEDS_SOUNDFILE = "needs the package soundfile: `pip install soundfile`"


def decode_audio(contents: bytes, name: str, rate: int) -> np.ndarray:
    """Decodes a recording from the bytes of its file.

    Args:
        contents: a WAV, FLAC, MP3, Ogg (Vorbis or Opus) or AIFF file. The format is detected from the first bytes.
        name: the name of the file in messages, such as its path.
        rate: the sample rate of the result in Hz.

    Returns:
        float32 [N] in [-1, 1]: the mean of the channels, at `rate`.

    Raises:
        UserError: the file is damaged, has no samples or samples that are not finite, has an unsupported format, or has
            a format that needs a package which is not installed.
    """
    samples, fault = _samples(*_open_contents(contents), 0.0, 0.0, rate)
    if message := fault.numpy().decode("utf-8"):
        raise UserError(f"{name}: {message}")
    return samples.numpy()


def read_audio(path: str | Path, rate: int) -> np.ndarray:
    """Reads the samples [N] of an audio file, see `decode_audio`.

    Raises:
        UserError: as for `decode_audio`, or the file cannot be read.
    """
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {_unreadable(error)}") from None
    return decode_audio(contents, str(path), rate)


class Faults:
    """Collects the utterances that a dataset could not read. Each one is listed once, even after several passes."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def add(self, index: int, name: str, message: str) -> None:
        """Adds an error message for the utterance at `index` in its manifest."""
        self._found[index] = (name, message)

    @property
    def found(self) -> list[tuple[str, str]]:
        """Pairs of the name of the utterance and a message that names the file, in the order of the manifest."""
        return [fault for _, fault in sorted(self._found.items())]


def manifest_utterances(utterances: Sequence[Utterance], rate: int, faults: Faults | None = None) -> tf.data.Dataset:
    """Returns a dataset that reads the utterances of a manifest on demand, several in parallel, in order.

    Utterances that cannot be read are skipped. Every pass over the dataset has the same elements.

    Args:
        utterances: the utterances from `read_manifest`.
        rate: the sample rate of the result in Hz.
        faults: collects the skipped utterances and the reasons.

    Returns:
        A dataset of {"source": samples float32 [N] in [-1, 1], "target": text, "name": string}.
    """
    collected = Faults() if faults is None else faults

    def opened(index: int) -> tuple[Any, np.ndarray, np.int32, bytes]:
        try:
            contents, samples, file_rate, fault = _open_contents(Path(utterances[index].path).read_bytes())
        except OSError as error:
            contents, samples, file_rate, fault = b"", _NOTHING, 0, _unreadable(error).encode()
        # An object array, because a numpy array of bytes would lose trailing zeros.
        return np.array(contents, object), samples, np.int32(file_rate), fault

    def note(index: int, fault: bytes) -> np.bool_:
        utterance = utterances[index]
        collected.add(int(index), utterance.name, f"{utterance.path}: {fault.decode('utf-8')}")
        return np.bool_(False)

    def read(index: tf.Tensor, start: tf.Tensor, seconds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, samples, file_rate, fault = tf.numpy_function(
            opened, [index], [tf.string, tf.float32, tf.int32, tf.string]
        )
        contents, file_rate, fault = (tf.ensure_shape(scalar, []) for scalar in (contents, file_rate, fault))
        samples, fault = _samples(
            contents, tf.ensure_shape(samples, [None, None]), file_rate, fault, start, seconds, rate
        )
        decoded = tf.cond(fault == b"", lambda: True, lambda: tf.numpy_function(note, [index, fault], tf.bool))
        return samples, tf.ensure_shape(decoded, [])

    columns = (
        np.array([utterance.start for utterance in utterances], np.float64),
        np.array([utterance.seconds for utterance in utterances], np.float64),
        tf.constant([utterance.text for utterance in utterances], tf.string),
        tf.constant([utterance.name for utterance in utterances], tf.string),
    )
    return (
        tf.data.Dataset.from_tensor_slices(columns)
        .enumerate()
        .map(
            lambda index, row: (*read(index, row[0], row[1]), row[2], row[3]),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .filter(lambda samples, decoded, text, name: decoded)
        .map(lambda samples, decoded, text, name: {"source": samples, "target": text, "name": name})
    )


_Opened = tuple[bytes, np.ndarray, int, bytes]
_NOTHING = np.zeros([0, 1], np.float32)


def _open_contents(contents: bytes) -> _Opened:
    """Prepares a file for `_samples`: returns the bytes of a WAV file, or samples [N, C] and their rate, or an error
    message.
    """
    if contents[:4] == b"RIFF":
        return contents, _NOTHING, 0, b""
    try:
        samples, rate = _decode_compressed(contents)
        if not len(samples):
            raise UserError(NO_SAMPLES)
        if not np.isfinite(samples).all():
            raise UserError(NOT_FINITE)
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UserError(rate_fault(rate).numpy().decode())
    except UserError as error:
        return b"", _NOTHING, 0, str(error).encode()
    return b"", samples, rate, b""


@tf.function(
    input_signature=[
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([], tf.int32),
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
    start: tf.Tensor,
    seconds: tf.Tensor,
    rate: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts the result of `_open_contents` to samples [N] at `rate`, and an error message or "".

    The samples begin at `start` and last `seconds`; 0 means up to the end of the recording.
    """
    samples, file_rate, fault = tf.cond(
        tf.strings.length(contents) > 0, lambda: decode_wav(contents), lambda: (samples, file_rate, fault)
    )
    samples_per_second, available = tf.cast(file_rate, tf.float64), tf.shape(samples, tf.int64)[0]
    end = tf.cast(available, tf.float64) / tf.maximum(samples_per_second, 1.0)
    stop = tf.where(seconds > 0.0, start + seconds, tf.maximum(start, end))
    first, last = (
        tf.minimum(tf.cast(tf.round(time * samples_per_second), tf.int64), available) for time in (start, stop)
    )
    message = ("no segment from ", _shown(start), " to ", _shown(stop), " s: the recording ends at ", _shown(end), " s")
    missing = (fault == b"") & ((first >= last) | (stop > end + _OVERSHOOT))
    fault = tf.where(missing, tf.strings.join(message), fault)
    last = tf.where(missing, first, last)
    return standardized(samples[first:last], file_rate, rate), fault


def _shown(seconds: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(seconds, precision=2)


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


# ---- compressed formats ---------------------------------------------------------------------------------------------


def _decode_compressed(contents: bytes) -> tuple[np.ndarray, int]:
    """Decodes samples [N, C] and their rate from a file that is not WAV, with soundfile or tensorflow-io."""
    format_name = _format(contents)
    if _soundfile() is not None:
        return _by_soundfile(contents, format_name)
    return _by_tensorflow_io(contents, format_name)


def _format(contents: bytes) -> str:
    if not contents:
        raise UserError("the file is empty (0 bytes)")
    if contents[:7] == b"NIST_1A":
        raise UserError("SPHERE files are not supported; convert the file, for example with `sox old.sph new.wav`")
    if contents[:4] == b"fLaC":
        return "FLAC"
    if contents[:4] == b"OggS":
        return "Ogg Opus" if b"OpusHead" in contents[:512] else "Ogg"
    if contents[:4] == b"FORM" and contents[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if contents[:3] == b"ID3" or _mp3_rate(contents[:4]):
        return "MP3"
    raise UserError(
        "must be a WAV, FLAC, MP3, Ogg or AIFF file, got other first bytes (samples without a header are not "
        "supported); convert the file, for example with `ffmpeg -i old new.wav`"
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError if the libsndfile library is missing
        return None
    return soundfile


def _by_soundfile(contents: bytes, format_name: str) -> tuple[np.ndarray, int]:
    soundfile = _soundfile()
    blocks = []
    try:
        with soundfile.SoundFile(io.BytesIO(contents)) as file:
            # The header may declare a wrong number of frames, or none. The file is therefore read in blocks. Seeking to
            # the position after each block is disabled, because it fails at the end of such a file.
            file.seekable = lambda: False
            while len(block := file.read(_READ_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
            rate, channels = file.samplerate, file.channels
    except (soundfile.LibsndfileError, ValueError) as error:
        reason = getattr(error, "error_string", "")
        raise UserError(f"the {format_name} file is damaged or truncated{f' ({reason})' if reason else ''}") from None
    samples = np.concatenate(blocks) if blocks else np.zeros([0, channels], np.float32)
    _check_complete(contents, format_name, len(samples))
    return samples, rate


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
            if bits not in (16, 24) or not _declared_frames(contents):
                raise UserError(f"FLAC with {bits} bits, or without a declared length, {_NEEDS_SOUNDFILE}")
            kind, scale = (tf.int16, 2.0**-15) if bits == 16 else (tf.int32, 2.0**-31)
            decode, rate = functools.partial(audio.decode_flac, dtype=kind), int.from_bytes(contents[18:21], "big") >> 4
            contents += _start_of_frame(contents)
        elif format_name == "MP3":
            decode, rate = audio.decode_mp3, _mp3_rate(contents[_tag_size(contents) :][:4])
        else:
            head = contents.find(b"\x01vorbis")
            decode, rate = audio.decode_vorbis, int.from_bytes(contents[head + 12 : head + 16], "little")
        samples = decode(contents).numpy().astype(np.float32) * np.float32(scale)
    except (ImportError, NotImplementedError):  # NotImplementedError if tensorflow-io does not match this TensorFlow
        raise UserError(f"{format_name} {_NEEDS_SOUNDFILE}") from None
    except (tf.errors.OpError, ValueError):
        raise UserError(f"the {format_name} file is damaged or truncated") from None
    _check_complete(contents, format_name, len(samples))
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


def _check_complete(contents: bytes, format_name: str, frames: int) -> None:
    if format_name == "FLAC" and _declared_frames(contents) > frames:
        raise UserError(f"the FLAC file is truncated: it has {frames} of {_declared_frames(contents)} samples")


def _declared_frames(contents: bytes) -> int:
    """Returns the number of frames that a FLAC header declares; 0 if it is unknown."""
    return int.from_bytes(contents[21:26], "big") % (1 << 36)


def _tag_size(contents: bytes) -> int:
    """Returns the size in bytes of the ID3 tag at the beginning."""
    if contents[:3] != b"ID3" or len(contents) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << (7 * power) for power, byte in enumerate(reversed(contents[6:10])))


def _mp3_rate(head: bytes) -> int:
    """Returns the sample rate in the four header bytes of an MPEG audio frame, or 0 if they are not such a header."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bit_rate == 15 or rate == 3:
        return 0
    return (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
