"""Length penalty and coverage penalty of the scores of hypotheses."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.spec import SearchSpec


def length_penalty(length: Any, spec: SearchSpec) -> tf.Tensor:
    """Returns the divisor of a sum of log_probs over `length` tokens (for gnmt: Wu et al. 2016, eq. 14)."""
    length = tf.cast(length, tf.float32)
    if spec.length_penalty == "none":
        return tf.ones_like(length)
    base = (5.0 + length) / 6.0 if spec.length_penalty == "gnmt" else length
    return base**spec.alpha


def coverage_penalty(coverage: Any, mask: Any, strength: float) -> tf.Tensor:
    """Returns the coverage penalty [B, K], `strength * sum_s log(min(coverage_s, 1))` (Wu et al. 2016, eq. 14).

    It is zero if every source position has a summed attention of 1 or more, and negative otherwise.

    Args:
        coverage: [B, K, S], attention weights summed over the output positions.
        mask: [B, S] bool, false for padded source positions, which are not part of the sum.
        strength: see above.
    """
    covered = tf.math.log(tf.clip_by_value(coverage, 1e-6, 1.0))
    return strength * tf.reduce_sum(tf.where(tf.expand_dims(mask, 1), covered, 0.0), axis=2)
