"""Reading recordings: whatever their format, mono float32 samples in [-1, 1] at the rate asked for.

WAV is decoded by the same function as inside the exported model (`features.wav`), and every recording is resampled by
the same one (`features.resampling`). FLAC, MP3, Ogg and AIFF are unpacked by soundfile or, where that is not installed,
by tensorflow-io.
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
# Seconds that the end of a stretch may lie behind the end of its recording: times in manifests are rounded.
_OVERSHOOT = 0.5
_NEEDS_SOUNDFILE = "needs the package soundfile: `pip install soundfile`"


def decode_audio(contents: bytes, name: str, rate: int) -> np.ndarray:
    """Samples of a recording given as the bytes of its file.

    Args:
        contents: a WAV, FLAC, MP3, Ogg (Vorbis or Opus) or AIFF file, told by its first bytes.
        name: what to call it in messages, such as its path.
        rate: samples a second of the result.

    Returns:
        float32 [N] in [-1, 1]: the mean of the channels, at `rate`.

    Raises:
        UserError: it is damaged, holds no samples or ones that are not numbers, is of another format, or of one that
            needs a package which is not installed.
    """
    samples, fault = _samples(*_opened(contents), 0.0, 0.0, rate)
    if message := fault.numpy().decode("utf-8"):
        raise UserError(f"{name}: {message}")
    return samples.numpy()


def read_audio(path: str | Path, rate: int) -> np.ndarray:
    """Samples [N] of an audio file; see `decode_audio`.

    Raises:
        UserError: as `decode_audio`, or the file cannot be read.
    """
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {_unreadable(error)}") from None
    return decode_audio(contents, str(path), rate)


class Faults:
    """Utterances that could not be read, as a dataset comes upon them; each once, however often it is read."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def add(self, index: int, name: str, message: str) -> None:
        """Notes a fault of the utterance at `place` in its manifest."""
        self._found[index] = (name, message)

    @property
    def found(self) -> list[tuple[str, str]]:
        """(name of the utterance, message that names the file), in the order of the manifest."""
        return [fault for _, fault in sorted(self._found.items())]


def manifest_utterances(utterances: Sequence[Utterance], rate: int, faults: Faults | None = None) -> tf.data.Dataset:
    """The utterances of a manifest, read as they are asked for, several at a time, in order.

    What cannot be read is left out; every pass over the dataset gives the same elements.

    Args:
        utterances: from `read_manifest`.
        rate: samples a second of the result.
        faults: takes what is left out, and why.

    Returns:
        A dataset of (samples float32 [N] in [-1, 1], text string scalar, name string scalar).
    """
    noted = Faults() if faults is None else faults

    def opened(index: int) -> tuple[Any, np.ndarray, np.int32, bytes]:
        try:
            contents, samples, own_rate, fault = _opened(Path(utterances[index].path).read_bytes())
        except OSError as error:
            contents, samples, own_rate, fault = b"", _NOTHING, 0, _unreadable(error).encode()
        # As an object: an array of bytes would lose the zeros at its end.
        return np.array(contents, object), samples, np.int32(own_rate), fault

    def note(index: int, fault: bytes) -> np.bool_:
        utterance = utterances[index]
        noted.add(int(index), utterance.name, f"{utterance.path}: {fault.decode('utf-8')}")
        return np.bool_(False)

    def read(index: tf.Tensor, start: tf.Tensor, seconds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        contents, samples, own_rate, fault = tf.numpy_function(
            opened, [index], [tf.string, tf.float32, tf.int32, tf.string]
        )
        contents, own_rate, fault = (tf.ensure_shape(scalar, []) for scalar in (contents, own_rate, fault))
        samples, fault = _samples(
            contents, tf.ensure_shape(samples, [None, None]), own_rate, fault, start, seconds, rate
        )
        good = tf.cond(fault == b"", lambda: True, lambda: tf.numpy_function(note, [index, fault], tf.bool))
        return samples, tf.ensure_shape(good, [])

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
        .filter(lambda samples, good, text, name: good)
        .map(lambda samples, good, text, name: (samples, text, name))
    )


_Opened = tuple[bytes, np.ndarray, int, bytes]
_NOTHING = np.zeros([0, 1], np.float32)


def _opened(contents: bytes) -> _Opened:
    """A file made ready for `_samples`: a WAV file's bytes, or samples [N, C] and their rate, or a fault."""
    if contents[:4] == b"RIFF":
        return contents, _NOTHING, 0, b""
    try:
        samples, rate = _unpacked(contents)
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
    own_rate: tf.Tensor,
    fault: tf.Tensor,
    start: tf.Tensor,
    seconds: tf.Tensor,
    rate: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `_opened` gives to samples [N] at `rate`, from `start` on for `seconds` (0: all), and a fault or ""."""
    samples, own_rate, fault = tf.cond(
        tf.strings.length(contents) > 0, lambda: decode_wav(contents), lambda: (samples, own_rate, fault)
    )
    each, there = tf.cast(own_rate, tf.float64), tf.shape(samples, tf.int64)[0]
    end = tf.cast(there, tf.float64) / tf.maximum(each, 1.0)
    stop = tf.where(seconds > 0.0, start + seconds, tf.maximum(start, end))
    first, last = (tf.minimum(tf.cast(tf.round(time * each), tf.int64), there) for time in (start, stop))
    message = ("no stretch from ", _shown(start), " to ", _shown(stop), " s is in it: it ends at ", _shown(end), " s")
    missing = (fault == b"") & ((first >= last) | (stop > end + _OVERSHOOT))
    fault = tf.where(missing, tf.strings.join(message), fault)
    last = tf.where(missing, first, last)
    return standardized(samples[first:last], own_rate, rate), fault


def _shown(seconds: tf.Tensor) -> tf.Tensor:
    return tf.strings.as_string(seconds, precision=2)


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


# ---- compressed formats ---------------------------------------------------------------------------------------------


def _unpacked(contents: bytes) -> tuple[np.ndarray, int]:
    """Samples [N, C] and their rate, of whatever is no WAV file. This is where soundfile or tensorflow-io is chosen."""
    form = _format(contents)
    if _soundfile() is not None:
        return _by_soundfile(contents, form)
    return _by_tensorflow_io(contents, form)


def _format(contents: bytes) -> str:
    if not contents:
        raise UserError("the file is empty (0 bytes)")
    if contents[:7] == b"NIST_1A":
        raise UserError("SPHERE files are not read; convert it, for example with `sox old.sph new.wav`")
    if contents[:4] == b"fLaC":
        return "FLAC"
    if contents[:4] == b"OggS":
        return "Ogg Opus" if b"OpusHead" in contents[:512] else "Ogg"
    if contents[:4] == b"FORM" and contents[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if contents[:3] == b"ID3" or _mp3_rate(contents[:4]):
        return "MP3"
    raise UserError(
        "not a WAV, FLAC, MP3, Ogg or AIFF file by its first bytes (samples without a header are not read); "
        "convert it, for example with `ffmpeg -i old new.wav`"
    )


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # the second where its library is missing
        return None
    return soundfile


def _by_soundfile(contents: bytes, form: str) -> tuple[np.ndarray, int]:
    soundfile = _soundfile()
    blocks = []
    try:
        with soundfile.SoundFile(io.BytesIO(contents)) as file:
            # A header may state any number of frames, or none: read in blocks, and without the seeking to the place
            # behind each block, which fails at the end of such a file.
            file.seekable = lambda: False
            while len(block := file.read(_READ_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
            rate, channels = file.samplerate, file.channels
    except (soundfile.LibsndfileError, ValueError) as error:
        reason = getattr(error, "error_string", "")
        raise UserError(f"a {form} file that is damaged or cut short{f' ({reason})' if reason else ''}") from None
    samples = np.concatenate(blocks) if blocks else np.zeros([0, channels], np.float32)
    _check_whole(contents, form, len(samples))
    return samples, rate


def _by_tensorflow_io(contents: bytes, form: str) -> tuple[np.ndarray, int]:
    """FLAC, MP3 and Ogg Vorbis. The operations do not tell the rate: it is read from the headers."""
    if form not in ("FLAC", "MP3", "Ogg"):
        raise UserError(f"{form} {_NEEDS_SOUNDFILE}")
    try:
        import tensorflow_io

        audio, scale = tensorflow_io.audio, 1.0
        decode: Callable[..., tf.Tensor]
        if form == "FLAC":
            if len(contents) < 42:
                raise UserError("a FLAC file that is cut short, within its header")
            bits = contents[20] % 2 * 16 + contents[21] // 16 + 1
            if bits not in (16, 24) or not _stated_frames(contents):
                raise UserError(f"FLAC of {bits} bits, or one that does not state its length, {_NEEDS_SOUNDFILE}")
            kind, scale = (tf.int16, 2.0**-15) if bits == 16 else (tf.int32, 2.0**-31)
            decode, rate = functools.partial(audio.decode_flac, dtype=kind), int.from_bytes(contents[18:21], "big") >> 4
            contents += _start_of_frame(contents)
        elif form == "MP3":
            decode, rate = audio.decode_mp3, _mp3_rate(contents[_tag_size(contents) :][:4])
        else:
            head = contents.find(b"\x01vorbis")
            decode, rate = audio.decode_vorbis, int.from_bytes(contents[head + 12 : head + 16], "little")
        samples = decode(contents).numpy().astype(np.float32) * np.float32(scale)
    except (ImportError, NotImplementedError):  # the second where its operations do not fit this TensorFlow
        raise UserError(f"{form} {_NEEDS_SOUNDFILE}") from None
    except (tf.errors.OpError, ValueError):
        raise UserError(f"a {form} file that is damaged or cut short") from None
    _check_whole(contents, form, len(samples))
    return samples, rate


def _start_of_frame(contents: bytes) -> bytes:
    """The first bytes of a FLAC file's first frame.

    Put behind a whole file, they are not reached. Behind one that lacks frames which its header counts, tensorflow-io
    finds in them a frame that is cut short, and reports it; with nothing there it would wait for more for ever.
    """
    index, last = 4, False
    while not last and index < len(contents):
        last = contents[index] >= 0x80
        index += 4 + int.from_bytes(contents[index + 1 : index + 4], "big")
    return contents[index : index + 32]


def _check_whole(contents: bytes, form: str, frames: int) -> None:
    if form == "FLAC" and _stated_frames(contents) > frames:
        raise UserError(f"a FLAC file that is cut short: {frames} of {_stated_frames(contents)} samples are there")


def _stated_frames(contents: bytes) -> int:
    """How many frames a FLAC header counts; 0 where it was not known."""
    return int.from_bytes(contents[21:26], "big") % (1 << 36)


def _tag_size(contents: bytes) -> int:
    """Bytes of the ID3 tag at the beginning."""
    if contents[:3] != b"ID3" or len(contents) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << (7 * power) for power, byte in enumerate(reversed(contents[6:10])))


def _mp3_rate(head: bytes) -> int:
    """The rate that the four bytes of an MPEG audio frame state, or 0 where they are no such frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bit_rate == 15 or rate == 3:
        return 0
    return (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
