"""Decoding of WAV files, in the graph.

It uses only core TensorFlow operations, so the same decoder reads training data and runs inside exported models on any
server. `tf.audio.decode_wav` reads only 16-bit PCM. This decoder reads all common sample formats, and an invalid file
does not make its batch fail.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfseq2seq.features.companding import a_law_samples, mu_law_samples

# Rates outside of these limits come from damaged headers. Resampling from or to them could need any amount of memory.
LOWEST_RATE = 1000
HIGHEST_RATE = 768_000

# Error messages for recordings of any format.
NO_SAMPLES = "the recording has no samples"
NOT_FINITE = "samples must be finite numbers, got NaN or infinity"

# What is told of recordings that are read but are not all that their file holds.
ANOTHER = "holds another recording after its end, which is not read"

# The first four bytes of WAV files. RIFX has all numbers with the first byte highest; the others have sizes of 64 bits.
MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Format tag and bytes per sample, in the order of the branches of `_values`.
_CODINGS = ((_PCM, 1), (_PCM, 2), (_PCM, 3), (_PCM, 4), (_FLOAT, 4), (_FLOAT, 8), (_A_LAW, 1), (_MU_LAW, 1))
# In place of a size: the size is in the chunk "ds64", or was not known when the header was written.
_UNKNOWN = 0xFFFFFFFF
# Recorders that write to a pipe declare a size just below 2^31 bytes. No file of 32-bit sizes is that long.
_ENDLESS = 0x7FFF0000
# A damaged or malicious file could have millions of empty chunks.
_MAX_CHUNKS = 1024
# Overshoot is far smaller. A floating-point file with larger samples was written at the scale of integers.
_LARGEST_FLOAT = 32.0
_LARGEST_BELOW_ONE = 1.0 - 2.0**-24


def decode_wav(contents: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes the samples of a WAV file.

    Supports PCM of 8 (unsigned), 16, 24 and 32 bits, IEEE floating point of 32 and 64 bits, mu-law and A-law, plain or
    as WAVE_FORMAT_EXTENSIBLE ("Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft 1991;
    "Multiple Channel Audio Data and WAVE Files", Microsoft 2001), in RIFF, RIFX and RF64 (EBU Tech 3306). Chunks other
    than "fmt " and "data" are skipped. Programs that write to a pipe declare a size of the data chunk that is 0 or
    beyond the end of the file. In this case all complete frames up to the end of the file are read. A file without
    samples also declares 0; it is told from a stream by its other chunks, which fill its RIFF chunk exactly.

    Args:
        contents: string scalar, the bytes of the file.

    Returns:
        samples: float32 [N, C] in [-1, 1): integers are divided by their full scale, floating point is clipped.
        rate: int32 scalar, the sample rate in Hz, from `LOWEST_RATE` to `HIGHEST_RATE`.
        fault: string scalar, empty if the file was decoded. Otherwise one line in English with the reason; then there
            are no samples (shape [0, 1]), and the rate is 0. No content of a file raises an exception.
    """
    samples, rate, fault, _ = read_wav(contents)
    return samples, rate, fault


def read_wav(contents: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the results of `decode_wav` and the one of `wav_warning`; a file that is not decoded has no warning."""
    contents, length, header = _opened(contents)
    samples, rate, fault = _decoded(contents, length, header)
    return samples, rate, fault, tf.where(fault == b"", _warning(header), b"")


def wav_warning(contents: Any) -> tf.Tensor:
    """Tells what of a WAV file is missing, or comes after its end and is not read.

    Args:
        contents: string scalar, the bytes of the file.

    Returns:
        String scalar, one line in English; empty if the recording is complete and alone. Where the size of the data is
        not declared, as in a stream, nothing is missing.
    """
    contents, _, header = _opened(contents)
    is_wav = _is_wav(tf.strings.substr(contents, 0, 12)) & header.has_data
    return tf.where(is_wav, _warning(header), b"")


def wav_coding(contents: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the format tag, int64 scalar, of the samples of a WAV file, and whether `decode_wav` supports it, bool.

    A file without a complete header counts as supported, because `decode_wav` tells what is wrong with it.
    """
    _, _, header = _opened(contents)
    tag, *_, coding = _format(header)
    return tag, (coding >= 0) | ~header.has_data | (tf.strings.length(header.layout) < 16)


def mono(samples: Any) -> tf.Tensor:
    """Returns the mean [N] of the channels of samples [N, C]."""
    return tf.reduce_mean(tf.convert_to_tensor(samples, tf.float32), axis=-1)


def rate_fault(rate: Any) -> tf.Tensor:
    """Returns the error message, a string scalar, for a sample rate that is not supported."""
    shown = tf.strings.as_string(rate)
    return tf.strings.join([f"the sample rate must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz, got ", shown, " Hz"])


def _opened(contents: Any) -> tuple[tf.Tensor, tf.Tensor, _Header]:
    """Returns the bytes of a file as a tensor, their number, and the header."""
    contents = tf.convert_to_tensor(contents, tf.string)
    length = tf.cast(tf.strings.length(contents), tf.int64)
    return contents, length, _header(contents, length)


def _decoded(contents: tf.Tensor, length: tf.Tensor, header: _Header) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns samples, rate and fault of `decode_wav`."""
    tag, channels, rate, width, coding = _format(header)
    frame = tf.maximum(channels * width, 1)
    frames = header.size // frame
    fault = _first_fault(
        (length == 0, "the file is empty (0 bytes)"),
        (~_is_wav(tf.strings.substr(contents, 0, 12)), "not a WAV file: it does not begin with RIFF and WAVE"),
        (~header.has_data, "a WAV file must have a data chunk, found none"),
        (
            tf.strings.length(header.layout) < 16,
            "a WAV file must have a complete fmt chunk before its data, found none",
        ),
        (channels == 0, "a WAV file must have at least 1 channel, got 0 channels"),
        ((rate < LOWEST_RATE) | (rate > HIGHEST_RATE), rate_fault(rate)),
        (coding < 0, _coding_fault(tag, width)),
        (frames == 0, "the WAV file has no samples"),
    )
    data = tf.strings.substr(contents, header.start, frames * frame)
    values = _values(data, tf.where(fault == b"", coding, -1), header.big)
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


def _warning(header: _Header) -> tf.Tensor:
    """Returns the message of `wav_warning`."""
    _, channels, rate, width, coding = _format(header)
    # Of a coding of blocks only the mean number of bytes per second is known.
    per_second = tf.where(coding < 0, _number(header.layout, 8, 4, header.big), channels * width * rate)
    seconds, declared = (
        tf.strings.as_string(tf.cast(size, tf.float64) / tf.cast(tf.maximum(per_second, 1), tf.float64), precision=3)
        for size in (header.size, header.declared)
    )
    missing = tf.strings.as_string(header.declared - header.size)
    ends = tf.strings.join(["ends after ", seconds, " of ", declared, " s; ", missing, " bytes are missing"])
    return _first_fault((header.cut, ends), (header.another, ANOTHER))


class _Header(NamedTuple):
    """Where the samples of a WAV file are.

    Attributes:
        big: whether the first byte of a number is the highest.
        layout: the bytes of the fmt chunk, at most 40.
        has_data: whether there is a data chunk.
        start: the first byte of the samples.
        declared: the size of the data in bytes as the file declares it.
        size: the number of bytes to read.
        cut: whether the file ends before its declared size, which is not that of a stream.
        another: whether another WAV file follows.
    """

    big: tf.Tensor
    layout: tf.Tensor
    has_data: tf.Tensor
    start: tf.Tensor
    declared: tf.Tensor
    size: tf.Tensor
    cut: tf.Tensor
    another: tf.Tensor


def _header(contents: tf.Tensor, length: tf.Tensor) -> _Header:
    magic = tf.strings.substr(contents, 0, 4)
    big, wide = magic == b"RIFX", (magic == b"RF64") | (magic == b"BW64")
    riff = _number(tf.strings.substr(contents, 0, 8), 4, 4, big)
    layout, sizes, start, declared, has_data = _chunks(contents, length, big)
    has_sizes = wide & (tf.strings.length(sizes) >= 16)
    riff = tf.where(has_sizes & (riff == _UNKNOWN), _number(sizes, 0, 8, big), riff)
    declared = tf.where(has_sizes & (declared == _UNKNOWN), _number(sizes, 8, 8, big), declared)
    available = tf.maximum(length - start, 0)
    streamed = (declared <= 0) | (declared == _UNKNOWN) | (~wide & (declared >= _ENDLESS))
    # Chunks of an odd size are followed by a padding byte, which is not part of the size.
    riff_end = 8 + riff + riff % 2
    follows = _wav_at(contents, length, start, riff_end)
    data_end = start + tf.where(streamed, tf.zeros_like(declared), declared + declared % 2)
    closed = (declared == 0) & (follows | _filled(contents, length, start, riff, big, declared == 0))
    beyond = (declared <= 0) | (declared > available)
    return _Header(
        big,
        layout,
        has_data,
        start,
        declared,
        tf.where(closed, tf.zeros_like(declared), tf.where(beyond, available, declared)),
        ~streamed & (declared > available),
        follows | (~streamed & _wav_at(contents, length, start, data_end)),
    )


def _chunks(
    contents: tf.Tensor, length: tf.Tensor, big: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the bytes of the fmt and the ds64 chunk, start and declared size of the data, and if data were found."""

    def unfinished(
        index: tf.Tensor, layout: tf.Tensor, sizes: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor
    ) -> tf.Tensor:
        return ~found & (index + 8 <= length)

    def body(
        index: tf.Tensor, layout: tf.Tensor, sizes: tf.Tensor, start: tf.Tensor, size: tf.Tensor, found: tf.Tensor
    ) -> Any:
        name, size = _chunk(contents, index, big)
        start = index + 8
        chunk = tf.strings.substr(contents, start, tf.minimum(size, 40))
        layout, sizes = tf.where(name == b"fmt ", chunk, layout), tf.where(name == b"ds64", chunk, sizes)
        return start + size + size % 2, layout, sizes, start, size, name == b"data"

    zero = tf.constant(0, tf.int64)
    first = (zero + 12, tf.constant(b""), tf.constant(b""), zero, zero, tf.constant(False))
    _, layout, sizes, start, size, found = tf.while_loop(unfinished, body, first, maximum_iterations=_MAX_CHUNKS)
    # Without a data chunk, `start` may be beyond the end of the file.
    return layout, sizes, tf.minimum(start, length), size, found


def _chunk(contents: tf.Tensor, index: tf.Tensor, big: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the name and the size of the chunk that begins at `index`."""
    head = tf.strings.substr(contents, index, tf.constant(8, tf.int64))
    return tf.strings.substr(head, 0, 4), _number(head, 4, 4, big)


def _filled(
    contents: tf.Tensor, length: tf.Tensor, start: tf.Tensor, riff: tf.Tensor, big: tf.Tensor, asked: tf.Tensor
) -> tf.Tensor:
    """Returns whether chunks with names fill the RIFF chunk from `start` to its end, as they do in a closed file.

    Looks only if `asked`.
    """
    end = 8 + riff

    def unfinished(index: tf.Tensor, named: tf.Tensor) -> tf.Tensor:
        return named & (index + 8 <= tf.minimum(end, length))

    def body(index: tf.Tensor, named: tf.Tensor) -> Any:
        name, size = _chunk(contents, index, big)
        return index + 8 + size + size % 2, tf.strings.regex_full_match(name, "[ -~]{4}")

    last, named = tf.while_loop(unfinished, body, (start, asked), maximum_iterations=_MAX_CHUNKS)
    # Without any other chunk, a RIFF chunk that ends before its file was never closed: the samples came later.
    complete = (last > start) | ((length - end >= 0) & (length - end < 2))
    # Some writers leave the last padding byte out of the size of the RIFF chunk, or do not write it.
    return named & complete & ((last == end) | (last == end + 1))


def _wav_at(contents: tf.Tensor, length: tf.Tensor, start: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns whether a WAV file begins at `index`, which must be after `start`."""
    inside = (index >= start) & (index + 12 <= length)
    return _is_wav(tf.strings.substr(contents, tf.where(inside, index, length), tf.constant(12, tf.int64)))


def _is_wav(head: tf.Tensor) -> tf.Tensor:
    """Returns whether 12 bytes are the first ones of a WAV file."""
    return tf.reduce_any(tf.strings.substr(head, 0, 4) == tf.constant(MAGICS)) & (
        tf.strings.substr(head, tf.minimum(tf.strings.length(head), 8), 4) == b"WAVE"
    )


def _format(header: _Header) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Parses a fmt chunk: format tag, channels, rate, bytes per sample, and the branch of `_values` or -1."""
    layout, big = header.layout, header.big
    tag, channels, rate = (_number(layout, index, count, big) for index, count in ((0, 2), (2, 2), (4, 4)))
    block, bits = _number(layout, 12, 2, big), _number(layout, 14, 2, big)
    # The first number of the extension's GUID is a format tag.
    tag = tf.where(tag == _EXTENSIBLE, _number(layout, 24, 4, big), tag)
    divisor = tf.maximum(channels, 1)
    # Samples of 12 or 20 bits are left-aligned in complete bytes.
    width = tf.where((block > 0) & (block % divisor == 0), block // divisor, (bits + 7) // 8)
    valid_bits = (bits > 0) & (bits <= 8 * width)
    known = tf.reduce_all(tf.constant(_CODINGS, tf.int64) == tf.stack([tag, width]), axis=1) & valid_bits
    coding = tf.where(tf.reduce_any(known), tf.argmax(tf.cast(known, tf.int32), output_type=tf.int32), -1)
    return tag, channels, rate, width, coding


def _values(data: tf.Tensor, coding: tf.Tensor, big: tf.Tensor) -> tf.Tensor:
    """Converts bytes of samples to float32 [n]. Returns no samples if `coding` is -1."""
    raw = tf.io.decode_raw(data, tf.uint8)

    def parts(width: int) -> tf.Tensor:
        """The bytes [n, width] of each sample, the lowest first, as all machines with TensorFlow have them."""
        rows = tf.reshape(raw, [-1, width])
        return tf.cond(big, lambda: tf.reverse(rows, [1]), lambda: rows)

    def integers(kind: tf.DType, scale: float) -> tf.Tensor:
        return tf.cast(tf.bitcast(parts(kind.size), kind), tf.float32) * scale

    def three_bytes() -> tf.Tensor:
        three = parts(3)
        top = tf.cast(tf.bitcast(three[:, 2], tf.int8), tf.float32)
        # float32 represents 24 bits exactly.
        return tf.linalg.matvec(tf.cast(three[:, :2], tf.float32), [2.0**-23, 2.0**-15]) + top * 2.0**-7

    branches = [
        lambda: (tf.cast(raw, tf.float32) - 128.0) * 2.0**-7,
        lambda: integers(tf.int16, 2.0**-15),
        three_bytes,
        lambda: integers(tf.int32, 2.0**-31),
        lambda: tf.bitcast(parts(4), tf.float32),
        lambda: tf.cast(tf.bitcast(parts(8), tf.float64), tf.float32),
        lambda: tf.gather(tf.constant(a_law_samples()), tf.cast(raw, tf.int32)),
        lambda: tf.gather(tf.constant(mu_law_samples()), tf.cast(raw, tf.int32)),
        lambda: tf.zeros([0], tf.float32),
    ]
    return tf.switch_case(tf.where(coding < 0, len(branches) - 1, coding), branches)


def _number(data: tf.Tensor, index: int, count: int, big: tf.Tensor) -> tf.Tensor:
    """Returns an unsigned number of `count` bytes in `data` as int64; of 8 bytes those from 2^63 on are negative.

    The lowest byte is the first, or if `big` the last. Bytes after the end of `data` count as 0.
    """
    padded = tf.io.decode_raw(data, tf.uint8, fixed_length=index + count)
    powers = tf.constant([256**power for power in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(padded[index:], tf.int64) * tf.where(big, powers[::-1], powers))


def _coding_fault(tag: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.strings.join(
        [
            "WAV format ",
            tf.strings.as_string(tag),
            " with ",
            tf.strings.as_string(width),
            " bytes per sample is not supported (2 and 17 are ADPCM, 85 is MP3); convert it to PCM, for example with "
            "`ffmpeg -i old.wav -c:a pcm_s16le new.wav`",
        ]
    )


def _first_fault(*checks: tuple[Any, Any]) -> tf.Tensor:
    """Returns the message of the first check whose condition is true, or an empty string."""
    fault: Any = ""
    for wrong, message in reversed(checks):
        fault = tf.where(wrong, message, fault)
    return tf.convert_to_tensor(fault)
