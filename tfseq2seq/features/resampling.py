"""Resampling of recordings, in the graph.

This is the only resampler of the package. Training data are resampled with it, and exported models contain it, so a
model gets the same samples in training and in serving. It uses only core TensorFlow operations.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfseq2seq.features.wav import mono

# The number of zero crossings of the sinc on each side, and its cutoff as a share of half the lower rate. The passband
# is flat up to 0.91, and the attenuation is 100 dB from 1.0 on, as in soxr's "HQ" setting.
_CROSSINGS = 72
_CUTOFF = 0.955
_ATTENUATION = 100.0
_BETA = 0.1102 * (_ATTENUATION - 8.7)
# The maximum number of entries in a table of filters. Beyond it, rates count as having no useful common divisor.
_LARGEST_TABLE = 1 << 20
# Without a useful common divisor: the number of tabulated filters between two samples, and the number of outputs that
# are computed at a time.
_STEPS = 512
_BLOCK = 1024


def standardized(samples: Any, from_rate: Any, to_rate: Any) -> tf.Tensor:
    """Converts recordings to the format of all further steps: mono, at `to_rate`, within [-1, 1].

    Args:
        samples: float32 [N, C], with any number of channels.
        from_rate: the sample rate of `samples` in Hz, an integer or int scalar.
        to_rate: the sample rate of the result in Hz, an integer or int scalar.

    Returns:
        float32 [ceil(N * to_rate / from_rate)]. Channels are averaged. Overshoot of a filter or a lossy codec is
        clipped.
    """
    return tf.clip_by_value(resample(mono(samples), from_rate, to_rate), -1.0, 1.0)


def resample(samples: Any, from_rate: Any, to_rate: Any) -> tf.Tensor:
    """Resamples by windowed-sinc interpolation, band-limited to half the lower of the two rates.

    The window is a Kaiser window (Kaiser and Schafer 1980; Smith, "Digital Audio Resampling", CCRMA). The passband is
    flat up to 0.91 of the lower Nyquist frequency, and the attenuation above it is 100 dB. The recording is extended by
    silence. The first output is at the time of the first input. With equal rates the samples do not change.

    Args:
        samples: float32 [N]; N may be 0.
        from_rate: the sample rate of `samples` in Hz, a positive integer or int scalar, static or dynamic.
        to_rate: the sample rate of the result in Hz, likewise.

    Returns:
        float32 [ceil(N * to_rate / from_rate)]. Values may exceed the range of the input (overshoot).
    """
    samples = tf.convert_to_tensor(samples, tf.float32)
    # A recording that could not be decoded has no samples and a rate of 0.
    from_rate = tf.maximum(tf.cast(from_rate, tf.int64), 1)
    to_rate = tf.maximum(tf.cast(to_rate, tf.int64), 1)
    divisor = _common_divisor(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    length = -(-tf.size(samples, tf.int64) * up // down)
    half = _half_width(up, down)
    # Blocks are about as long as a filter. Shorter blocks would read each input many times.
    repeats = tf.maximum(2 * half // down, 1)
    size = (repeats * down + 2 * half) * repeats * up

    def changed_rate() -> tf.Tensor:
        return tf.cond(
            size <= _LARGEST_TABLE,
            lambda: _polyphase(samples, up, down, half, repeats, length),
            lambda: _interpolated(samples, up, down, half, length),
        )

    resampled = tf.cond(tf.equal(up, down), lambda: samples, changed_rate)
    return tf.ensure_shape(resampled, [None])


def _polyphase(
    samples: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor, repeats: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """Resamples with the filters of all `up` positions of an output between two inputs, as one matrix product.

    The filters repeat every `up` outputs, with inputs shifted by `down`. A block of inputs times one matrix therefore
    gives `repeats * up` outputs. The matrix has one filter per column, and later filters are shifted down.
    """
    taps = 2 * half
    indices = tf.range(up) * down % up
    filters = _filters(tf.cast(indices, tf.float64) / tf.cast(up, tf.float64), up, down, half)
    rows, columns = repeats * down, repeats * up
    first = tf.range(columns) * down // up
    index = tf.range(rows + taps)[:, None] - first[None, :]
    flat = (tf.range(columns) % up)[None, :] * taps + tf.clip_by_value(index, 0, taps - 1)
    matrix = tf.where((index >= 0) & (index < taps), tf.gather(tf.reshape(filters, [-1]), flat), 0.0)
    blocks = -(-length // columns)
    padded = _padded(samples, half, blocks * rows + taps)
    positions = (tf.range(blocks) * rows)[:, None] + tf.range(rows + taps)[None, :]
    outputs = tf.matmul(tf.gather(padded, tf.cast(positions, tf.int32)), matrix)
    return tf.reshape(outputs, [-1])[:length]


def _interpolated(samples: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Resamples between rates without a useful common divisor: filters are interpolated linearly in a table.

    See Smith and Gossett 1984. With `_STEPS` filters between two samples, the interpolation error is below the stopband
    error.
    """
    table = _filters(tf.range(_STEPS + 1, dtype=tf.float64) / _STEPS, up, down, half)
    last = (length - 1) * down // up
    padded = _padded(samples, half, last + 2 * half)
    taps = tf.range(2 * half)

    def block(start: tf.Tensor) -> tf.Tensor:
        # The last block has outputs after the end, which are cut off below.
        times = tf.minimum(start + tf.range(_BLOCK, dtype=tf.int64), length - 1) * down
        step = tf.cast(times % up, tf.float64) / tf.cast(up, tf.float64) * _STEPS
        lower = tf.cast(step, tf.int32)
        fraction = tf.cast(step - tf.cast(lower, tf.float64), tf.float32)[:, None]
        low, high = tf.gather(table, lower), tf.gather(table, lower + 1)
        windows = tf.gather(padded, tf.cast((times // up)[:, None] + taps[None, :], tf.int32))
        return tf.reduce_sum(windows * (low + fraction * (high - low)), axis=1)

    starts = tf.range(0, length, _BLOCK, dtype=tf.int64)
    outputs = tf.map_fn(block, starts, fn_output_signature=tf.TensorSpec([_BLOCK], tf.float32), parallel_iterations=1)
    return tf.reshape(outputs, [-1])[:length]


def _filters(fractions: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor) -> tf.Tensor:
    """Returns filters [P, 2 * half] for outputs that are `fractions` [P] of a sample after an input.

    Tap k is the weight of the input k - half + 1 samples later.
    """
    lower = tf.minimum(tf.cast(up, tf.float64) / tf.cast(down, tf.float64), 1.0)
    times = tf.cast(tf.range(1 - half, half + 1), tf.float64)[None, :] - fractions[:, None]
    angles = math.pi * _CUTOFF * lower * times
    is_zero = tf.abs(angles) < 1e-9
    sinc = tf.where(is_zero, tf.ones_like(angles), tf.sin(angles) / tf.where(is_zero, tf.ones_like(angles), angles))
    inside = 1.0 - tf.square(times * lower / _CROSSINGS)
    window = tf.math.bessel_i0(_BETA * tf.sqrt(tf.maximum(inside, 0.0))) / tf.math.bessel_i0(
        tf.constant(_BETA, tf.float64)
    )
    return tf.cast(tf.where(inside >= 0.0, _CUTOFF * lower * sinc * window, tf.zeros_like(sinc)), tf.float32)


def _half_width(up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Returns the number of inputs on each side of an output that its filter uses."""
    return tf.where(up < down, -(-_CROSSINGS * down // up), tf.constant(_CROSSINGS, tf.int64))


def _padded(samples: tf.Tensor, half: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Pads `samples` with the silence that the first filter needs before them, and after them to at least `length`."""
    before = half - 1
    after = tf.maximum(length - before - tf.size(samples, tf.int64), 0)
    return tf.pad(samples, tf.stack([before, after])[None, :])


def _common_divisor(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns the greatest common divisor (Euclid's algorithm)."""
    divisor, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (first, second))
    return divisor
