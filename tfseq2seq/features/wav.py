"""Decoding of WAV files, in the graph.

It uses only core TensorFlow operations, so the same decoder reads training data and runs inside exported models on any
server. `tf.audio.decode_wav` reads only 16-bit PCM. This decoder reads all common sample formats, and an invalid file
does not make its batch fail.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# Rates outside of these limits come from damaged headers. Resampling from or to them could need any amount of memory.
LOWEST_RATE = 1000
HIGHEST_RATE = 768_000

# Error messages for recordings of any format.
NO_SAMPLES = "the recording has no samples"
NOT_FINITE = "samples must be finite numbers, got NaN or infinity"

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Format tag and bytes per sample, in the order of the branches of `_values`.
_CODINGS = ((_PCM, 1), (_PCM, 2), (_PCM, 3), (_PCM, 4), (_FLOAT, 4), (_FLOAT, 8))
# A damaged or malicious file could have millions of empty chunks.
_MAX_CHUNKS = 1024
# Overshoot is far smaller. A floating-point file with larger samples was written at the scale of integers.
_LARGEST_FLOAT = 32.0
_LARGEST_BELOW_ONE = 1.0 - 2.0**-24


def decode_wav(contents: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes the samples of a WAV file.

    Supports PCM of 8 (unsigned), 16, 24 and 32 bits and IEEE floating point of 32 and 64 bits, plain or as
    WAVE_FORMAT_EXTENSIBLE ("Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft 1991;
    "Multiple Channel Audio Data and WAVE Files", Microsoft 2001). Chunks other than "fmt " and "data" are skipped.
    Programs that write to a pipe declare a size of the data chunk that is 0 or beyond the end of the file. In this case
    all complete frames up to the end of the file are read.

    Args:
        contents: string scalar, the bytes of the file.

    Returns:
        samples: float32 [N, C] in [-1, 1): integers are divided by their full scale, floating point is clipped.
        rate: int32 scalar, the sample rate in Hz, from `LOWEST_RATE` to `HIGHEST_RATE`.
        fault: string scalar, empty if the file was decoded. Otherwise one line in English with the reason; then there
            are no samples (shape [0, 1]), and the rate is 0. No content of a file raises an exception.
    """
    contents = tf.convert_to_tensor(contents, tf.string)
    length = tf.cast(tf.strings.length(contents), tf.int64)
    layout, start, declared, has_data = _chunks(contents, length)
    tag, channels, rate, width, coding = _format(layout)
    frame = tf.maximum(channels * width, 1)
    available = tf.maximum(length - start, 0)
    frames = tf.where((declared == 0) | (declared > available), available, declared) // frame
    magic = tf.strings.substr(contents, 0, 4) + tf.strings.substr(contents, tf.minimum(length, 8), 4)
    fault = _first_fault(
        (length == 0, "the file is empty (0 bytes)"),
        (magic != b"RIFFWAVE", "not a WAV file: it does not begin with RIFF and WAVE"),
        (~has_data, "a WAV file must have a data chunk, found none"),
        (tf.strings.length(layout) < 16, "a WAV file must have a complete fmt chunk before its data, found none"),
        (channels == 0, "a WAV file must have at least 1 channel, got 0 channels"),
        ((rate < LOWEST_RATE) | (rate > HIGHEST_RATE), rate_fault(rate)),
        (coding < 0, _coding_fault(tag, width)),
        (frames == 0, "the WAV file has no samples"),
    )
    values = _values(tf.strings.substr(contents, start, frames * frame), tf.where(fault == b"", coding, -1))
    largest = tf.reduce_max(tf.abs(values))
    fault = _first_fault(
        (fault != b"", fault),
        (~tf.reduce_all(tf.math.is_finite(values)), NOT_FINITE),
        (
            largest > _LARGEST_FLOAT,
            "floating-point samples must be between -1 and 1, got far larger ones; divide them by their full scale",
        ),
    )
    valid = fault == b""
    values = tf.where(valid, values, 0.0)[: tf.where(valid, tf.size(values), 0)]
    samples = tf.reshape(values, tf.stack([-1, tf.where(valid, tf.maximum(channels, 1), 1)]))
    return tf.clip_by_value(samples, -1.0, _LARGEST_BELOW_ONE), tf.where(valid, tf.cast(rate, tf.int32), 0), fault


def mono(samples: Any) -> tf.Tensor:
    """Returns the mean [N] of the channels of samples [N, C]."""
    return tf.reduce_mean(tf.convert_to_tensor(samples, tf.float32), axis=-1)


def rate_fault(rate: Any) -> tf.Tensor:
    """Returns the error message, a string scalar, for a sample rate that is not supported."""
    shown = tf.strings.as_string(rate)
    return tf.strings.join([f"the sample rate must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz, got ", shown, " Hz"])


def _chunks(contents: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the bytes of the fmt chunk, the start and declared size of the data, and whether data were found."""

    def unfinished(
        index: tf.Tensor, layout: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor
    ) -> tf.Tensor:
        return ~found & (index + 8 <= length)

    def body(index: tf.Tensor, layout: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor) -> Any:
        name = tf.strings.substr(contents, index, tf.constant(4, tf.int64))
        start = index + 8
        size = _number(tf.strings.substr(contents, index, tf.constant(8, tf.int64)), 4, 4)
        chunk = tf.strings.substr(contents, start, tf.minimum(size, 40))
        # Chunks of an odd size are followed by a padding byte, which is not part of the size.
        return start + size + size % 2, tf.where(name == b"fmt ", chunk, layout), start, size, name == b"data"

    zero = tf.constant(0, tf.int64)
    first = (zero + 12, tf.constant(b""), zero, zero, tf.constant(False))
    _, layout, start, size, found = tf.while_loop(unfinished, body, first, maximum_iterations=_MAX_CHUNKS)
    # Without a data chunk, `start` may be beyond the end of the file.
    return layout, tf.minimum(start, length), size, found


def _format(layout: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Parses a fmt chunk: format tag, channels, rate, bytes per sample, and the branch of `_values` or -1."""
    tag, channels, rate = _number(layout, 0, 2), _number(layout, 2, 2), _number(layout, 4, 4)
    block, bits = _number(layout, 12, 2), _number(layout, 14, 2)
    # The first two bytes of the extension's GUID are a format tag.
    tag = tf.where(tag == _EXTENSIBLE, _number(layout, 24, 2), tag)
    divisor = tf.maximum(channels, 1)
    # Samples of 12 or 20 bits are left-aligned in complete bytes.
    width = tf.where((block > 0) & (block % divisor == 0), block // divisor, (bits + 7) // 8)
    valid_bits = (bits > 0) & (bits <= 8 * width)
    known = tf.reduce_all(tf.constant(_CODINGS, tf.int64) == tf.stack([tag, width]), axis=1) & valid_bits
    coding = tf.where(tf.reduce_any(known), tf.argmax(tf.cast(known, tf.int32), output_type=tf.int32), -1)
    return tag, channels, rate, width, coding


def _values(data: tf.Tensor, coding: tf.Tensor) -> tf.Tensor:
    """Converts bytes of samples to float32 [n]. Returns no samples if `coding` is -1."""

    def integers(kind: tf.DType, scale: float) -> tf.Tensor:
        return tf.cast(tf.io.decode_raw(data, kind), tf.float32) * scale

    def three_bytes() -> tf.Tensor:
        parts = tf.reshape(tf.io.decode_raw(data, tf.uint8), [-1, 3])
        top = tf.cast(tf.bitcast(parts[:, 2], tf.int8), tf.float32)
        # float32 represents 24 bits exactly.
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
    """Returns a little-endian unsigned number in `data` as int64. Bytes after the end of `data` count as 0."""
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
            " bytes per sample is not supported (6 and 7 are A-law and mu-law, 2 and 17 are ADPCM); convert it to PCM, "
            "for example with `ffmpeg -i old.wav -c:a pcm_s16le new.wav`",
        ]
    )


def _first_fault(*checks: tuple[Any, Any]) -> tf.Tensor:
    """Returns the message of the first check whose condition is true, or an empty string."""
    fault: Any = ""
    for wrong, message in reversed(checks):
        fault = tf.where(wrong, message, fault)
    return tf.convert_to_tensor(fault)
