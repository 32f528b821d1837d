"""Changing the sample rate of recordings, in graph.

This is the one resampler of the package: training data pass through it, and the exported model has it inside, so that
what a model is served cannot drift from what it learned on. Core TensorFlow operations only.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfseq2seq.features.wav import mono

# Zero crossings of the sinc on either side, and where its passband ends, as a share of half the lower rate: flat up to
# 0.91 and 100 dB down from 1.0 on, as soxr's "HQ" setting has it.
_CROSSINGS = 72
_CUTOFF = 0.955
_ATTENUATION = 100.0
_BETA = 0.1102 * (_ATTENUATION - 8.7)
# Entries in a table of filters, beyond which rates are taken for ones without a common divisor worth using.
_LARGEST_TABLE = 1 << 20
# Without such a divisor: filters tabulated between two samples, and outputs computed at a time.
_STEPS = 512
_BLOCK = 1024


def standardized(samples: Any, from_rate: Any, to_rate: Any) -> tf.Tensor:
    """What recordings become before anything else is computed from them: mono, at `to_rate`, within [-1, 1].

    Args:
        samples: float32 [N, C], of any number of channels.
        from_rate: their samples a second, an integer or int scalar.
        to_rate: the rate wanted, likewise.

    Returns:
        float32 [ceil(N * to_rate / from_rate)]. Channels are averaged. The overshoot of a filter, or of a lossy codec,
        is clipped.
    """
    return tf.clip_by_value(resample(mono(samples), from_rate, to_rate), -1.0, 1.0)


def resample(samples: Any, from_rate: Any, to_rate: Any) -> tf.Tensor:
    """Samples at another rate: windowed-sinc interpolation, band-limited to half the lower of the two rates.

    With a Kaiser window (Kaiser and Schafer 1980; Smith, "Digital Audio Resampling", CCRMA), flat up to 0.91 of the
    lower Nyquist frequency and 100 dB down above it. Outside of the recording there is silence. The first output is at
    the time of the first input. Equal rates give the samples back, bit for bit.

    Args:
        samples: float32 [N], N may be 0.
        from_rate: samples a second of `samples`, a positive integer or int scalar, known when traced or not.
        to_rate: samples a second of the result, likewise.

    Returns:
        float32 [ceil(N * to_rate / from_rate)]. Values may overshoot the range of the input.
    """
    samples = tf.convert_to_tensor(samples, tf.float32)
    # A recording that could not be decoded has no samples and no rate.
    from_rate = tf.maximum(tf.cast(from_rate, tf.int64), 1)
    to_rate = tf.maximum(tf.cast(to_rate, tf.int64), 1)
    divisor = _common_divisor(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    length = -(-tf.size(samples, tf.int64) * up // down)
    half = _half_width(up, down)
    # Blocks about as long as a filter: shorter ones would read every input many times over.
    repeats = tf.maximum(2 * half // down, 1)
    size = (repeats * down + 2 * half) * repeats * up

    def other_rate() -> tf.Tensor:
        return tf.cond(
            size <= _LARGEST_TABLE,
            lambda: _polyphase(samples, up, down, half, repeats, length),
            lambda: _interpolated(samples, up, down, half, length),
        )

    resampled = tf.cond(tf.equal(up, down), lambda: samples, other_rate)
    return tf.ensure_shape(resampled, [None])


def _polyphase(
    samples: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor, repeats: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """The filters of all `up` places that an output can have between two inputs, as one matrix.

    Every `up` outputs read the inputs `down` further on with the same filters. So a block of inputs times one matrix
    gives `repeats * up` outputs: a matrix with a filter in each column, the later ones lower down.
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
    read = (tf.range(blocks) * rows)[:, None] + tf.range(rows + taps)[None, :]
    outputs = tf.matmul(tf.gather(padded, tf.cast(read, tf.int32)), matrix)
    return tf.reshape(outputs, [-1])[:length]


def _interpolated(samples: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Rates with no common divisor worth using: filters from a table, linearly interpolated (Smith and Gossett 1984).

    At `_STEPS` filters between two samples the error of interpolating is below that of the stopband.
    """
    table = _filters(tf.range(_STEPS + 1, dtype=tf.float64) / _STEPS, up, down, half)
    last = (length - 1) * down // up
    padded = _padded(samples, half, last + 2 * half)
    taps = tf.range(2 * half)

    def block(start: tf.Tensor) -> tf.Tensor:
        # The outputs behind the end, in the last block, are cut off below.
        times = tf.minimum(start + tf.range(_BLOCK, dtype=tf.int64), length - 1) * down
        step = tf.cast(times % up, tf.float64) / tf.cast(up, tf.float64) * _STEPS
        lower = tf.cast(step, tf.int32)
        share = tf.cast(step - tf.cast(lower, tf.float64), tf.float32)[:, None]
        low, high = tf.gather(table, lower), tf.gather(table, lower + 1)
        windows = tf.gather(padded, tf.cast((times // up)[:, None] + taps[None, :], tf.int32))
        return tf.reduce_sum(windows * (low + share * (high - low)), axis=1)

    starts = tf.range(0, length, _BLOCK, dtype=tf.int64)
    outputs = tf.map_fn(block, starts, fn_output_signature=tf.TensorSpec([_BLOCK], tf.float32), parallel_iterations=1)
    return tf.reshape(outputs, [-1])[:length]


def _filters(fractions: tf.Tensor, up: tf.Tensor, down: tf.Tensor, half: tf.Tensor) -> tf.Tensor:
    """Filters [P, 2 * half] for outputs that lie `fractions` [P] behind an input.

    Tap k weighs the input k - half + 1 places further on.
    """
    lower = tf.minimum(tf.cast(up, tf.float64) / tf.cast(down, tf.float64), 1.0)
    times = tf.cast(tf.range(1 - half, half + 1), tf.float64)[None, :] - fractions[:, None]
    angles = math.pi * _CUTOFF * lower * times
    near = tf.abs(angles) < 1e-9
    sinc = tf.where(near, tf.ones_like(angles), tf.sin(angles) / tf.where(near, tf.ones_like(angles), angles))
    inside = 1.0 - tf.square(times * lower / _CROSSINGS)
    window = tf.math.bessel_i0(_BETA * tf.sqrt(tf.maximum(inside, 0.0))) / tf.math.bessel_i0(
        tf.constant(_BETA, tf.float64)
    )
    return tf.cast(tf.where(inside >= 0.0, _CUTOFF * lower * sinc * window, tf.zeros_like(sinc)), tf.float32)


def _half_width(up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    """Inputs on either side of an output that its filter reaches."""
    return tf.where(up < down, -(-_CROSSINGS * down // up), tf.constant(_CROSSINGS, tf.int64))


def _padded(samples: tf.Tensor, half: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """`samples` with the silence that the filter of the first output reaches before them, `length` in all or more."""
    before = half - 1
    after = tf.maximum(length - before - tf.size(samples, tf.int64), 0)
    return tf.pad(samples, tf.stack([before, after])[None, :])


def _common_divisor(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Greatest common divisor, by Euclid."""
    divisor, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (first, second))
    return divisor
