"""Decoding WAV files, in graph.

Core TensorFlow operations only, so that the same decoder reads training data and runs inside an exported model, on any
server. Unlike `tf.audio.decode_wav`, which knows 16-bit PCM only, it reads every common sample format, and a file at
fault does not end the batch it came in.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Rates beyond these come from damaged headers; resampling from or to them could take any amount of memory.
LOWEST_RATE = 1000
HIGHEST_RATE = 768_000

# Faults of recordings in any format.
NO_SAMPLES = "the recording holds no samples"
NOT_FINITE = "samples that are not numbers, or infinite"

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Format tag and bytes in a sample, in the order of the branches of `_values`.
_CODINGS = ((_PCM, 1), (_PCM, 2), (_PCM, 3), (_PCM, 4), (_FLOAT, 4), (_FLOAT, 8))
# A damaged or hostile file could hold millions of empty chunks.
_MOST_CHUNKS = 1024
# Overshoot stays far below; a floating-point file with samples this large was written at the scale of integers.
_LARGEST_FLOAT = 32.0
_LARGEST_BELOW_ONE = 1.0 - 2.0**-24


def decode_wav(contents: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The samples in the bytes of a WAV file.

    Reads PCM of 8 (unsigned), 16, 24 and 32 bits and IEEE floating point of 32 and 64 bits, plain or as
    WAVE_FORMAT_EXTENSIBLE ("Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft 1991;
    "Multiple Channel Audio Data and WAVE Files", Microsoft 2001). Chunks other than "fmt " and "data" are skipped. A
    data chunk that states a size of 0, or one beyond the end of the file, as programs do that write to a pipe, has what
    is there, in whole frames.

    Args:
        contents: string scalar, the file's bytes.

    Returns:
        samples: float32 [N, C] in [-1, 1): integers divided by their full scale, floating point clipped.
        rate: int32 scalar, samples a second, from `LOWEST_RATE` to `HIGHEST_RATE`.
        fault: string scalar, empty. For what cannot be decoded, one line in English that says why; then there are no
            samples, shape [0, 1], and the rate is 0. Nothing in a file raises an error.
    """
    contents = tf.convert_to_tensor(contents, tf.string)
    length = tf.cast(tf.strings.length(contents), tf.int64)
    layout, start, stated, has_data = _chunks(contents, length)
    tag, channels, rate, width, coding = _format(layout)
    frame = tf.maximum(channels * width, 1)
    there = tf.maximum(length - start, 0)
    frames = tf.where((stated == 0) | (stated > there), there, stated) // frame
    magic = tf.strings.substr(contents, 0, 4) + tf.strings.substr(contents, tf.minimum(length, 8), 4)
    fault = _first_fault(
        (length == 0, "the file is empty (0 bytes)"),
        (magic != b"RIFFWAVE", "not a WAV file: it does not begin with RIFF and WAVE"),
        (~has_data, "a WAV file without a data chunk"),
        (tf.strings.length(layout) < 16, "a WAV file without a whole fmt chunk before its data"),
        (channels == 0, "a WAV file that states 0 channels"),
        ((rate < LOWEST_RATE) | (rate > HIGHEST_RATE), rate_fault(rate)),
        (coding < 0, _coding_fault(tag, width)),
        (frames == 0, "a WAV file without samples"),
    )
    values = _values(tf.strings.substr(contents, start, frames * frame), tf.where(fault == b"", coding, -1))
    largest = tf.reduce_max(tf.abs(values))
    fault = _first_fault(
        (fault != b"", fault),
        (~tf.reduce_all(tf.math.is_finite(values)), NOT_FINITE),
        (largest > _LARGEST_FLOAT, "floating-point samples far beyond -1 and 1: divide them by their full scale"),
    )
    good = fault == b""
    values = tf.where(good, values, 0.0)[: tf.where(good, tf.size(values), 0)]
    samples = tf.reshape(values, tf.stack([-1, tf.where(good, tf.maximum(channels, 1), 1)]))
    return tf.clip_by_value(samples, -1.0, _LARGEST_BELOW_ONE), tf.where(good, tf.cast(rate, tf.int32), 0), fault


def mono(samples: Any) -> tf.Tensor:
    """Samples [N, C] of any number of channels to [N], the mean of the channels."""
    return tf.reduce_mean(tf.convert_to_tensor(samples, tf.float32), axis=-1)


def rate_fault(rate: Any) -> tf.Tensor:
    """What is wrong with a rate that is not read, as a string scalar."""
    shown = tf.strings.as_string(rate)
    return tf.strings.join(["a sample rate of ", shown, f" Hz; from {LOWEST_RATE} to {HIGHEST_RATE} Hz are read"])


def _chunks(contents: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The fmt chunk's bytes, where the data begin, their stated size, and whether there is a data chunk."""

    def going_on(index: tf.Tensor, layout: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return ~found & (index + 8 <= length)

    def body(index: tf.Tensor, layout: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor) -> Any:
        name = tf.strings.substr(contents, index, tf.constant(4, tf.int64))
        start = index + 8
        size = _number(tf.strings.substr(contents, index, tf.constant(8, tf.int64)), 4, 4)
        chunk = tf.strings.substr(contents, start, tf.minimum(size, 40))
        # Chunks of an odd size are followed by a byte that is not counted.
        return start + size + size % 2, tf.where(name == b"fmt ", chunk, layout), start, size, name == b"data"

    zero = tf.constant(0, tf.int64)
    first = (zero + 12, tf.constant(b""), zero, zero, tf.constant(False))
    _, layout, start, size, found = tf.while_loop(going_on, body, first, maximum_iterations=_MOST_CHUNKS)
    # Without data, `start` may be that of a chunk which reaches beyond the end.
    return layout, tf.minimum(start, length), size, found


def _format(layout: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """What a fmt chunk says: format tag, channels, rate, bytes in a sample, and the branch of `_values` or -1."""
    tag, channels, rate = _number(layout, 0, 2), _number(layout, 2, 2), _number(layout, 4, 4)
    block, bits = _number(layout, 12, 2), _number(layout, 14, 2)
    # The first two bytes of the extension's GUID are a format tag.
    tag = tf.where(tag == _EXTENSIBLE, _number(layout, 24, 2), tag)
    divisor = tf.maximum(channels, 1)
    # Samples of 12 or 20 bits lie at the top of whole bytes.
    width = tf.where((block > 0) & (block % divisor == 0), block // divisor, (bits + 7) // 8)
    whole = (bits > 0) & (bits <= 8 * width)
    known = tf.reduce_all(tf.constant(_CODINGS, tf.int64) == tf.stack([tag, width]), axis=1) & whole
    coding = tf.where(tf.reduce_any(known), tf.argmax(tf.cast(known, tf.int32), output_type=tf.int32), -1)
    return tag, channels, rate, width, coding


def _values(data: tf.Tensor, coding: tf.Tensor) -> tf.Tensor:
    """Bytes of samples to float32 [n]; none where `coding` is -1."""

    def integers(kind: tf.DType, scale: float) -> tf.Tensor:
        return tf.cast(tf.io.decode_raw(data, kind), tf.float32) * scale

    def three_bytes() -> tf.Tensor:
        parts = tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3])
        top = tf.cast(tf.bitcast(parts[:, 2], tf.int8), tf.float32)
        # 24 bits are exact in float32.
        return tf.linalg.matvec(tf.cast(parts[:, :2], tf.float32), [2.0**-23, 2.0**-15]) + top * 2.0**-7

    branches = [
        lambda: (tf.cast(tf.io.decode_raw(data, tf.uint8), tf.float32) - 128.0) * 2.0**-7,
        lambda: integers(tf.int16, 2.0**-15),
        three_bytes,
        lambda: integers(tf.int32, 2.0**-31),
        lambda: tf.io.decode_raw(data, tf.float32),
        lambda: tf.cast(tf.io.decode_raw(data, tf.float64), tf.float32),
        lambda: tf.zeros([0], tf.float32),
    ]
    return tf.switch_case(tf.where(coding < 0, len(branches) - 1, coding), branches)


def _number(data: tf.Tensor, index: int, count: int) -> tf.Tensor:
    """A little-endian unsigned number in `data` as int64; bytes beyond its end count as 0."""
    padded = tf.io.decode_raw(data, tf.uint8, fixed_length=index + count)
    powers = tf.constant([256**power for power in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(padded[index:], tf.int64) * powers)


def _coding_fault(tag: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.strings.join(
        [
            "WAV format ",
            tf.strings.as_string(tag),
            " with ",
            tf.strings.as_string(width),
            " bytes a sample is not read (6 and 7 are A-law and mu-law, 2 and 17 ADPCM); write PCM, for example with "
            "`ffmpeg -i old.wav -c:a pcm_s16le new.wav`",
        ]
    )


def _first_fault(*checks: tuple[Any, Any]) -> tf.Tensor:
    """The message of the first check that is true, or an empty string."""
    fault: Any = ""
    for wrong, message in reversed(checks):
        fault = tf.where(wrong, message, fault)
    return tf.convert_to_tensor(fault)
