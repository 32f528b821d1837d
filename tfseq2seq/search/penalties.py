"""What hypotheses are ranked by, beyond their log-probability."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfseq2seq.spec import SearchSpec


def length_penalty(length: Any, spec: SearchSpec) -> tf.Tensor:
    """What a sum of log-probabilities over `length` tokens is divided by (Wu et al. 2016, eq. 14, for gnmt)."""
    length = tf.cast(length, tf.float32)
    if spec.length_penalty == "none":
        return tf.ones_like(length)
    base = (5.0 + length) / 6.0 if spec.length_penalty == "gnmt" else length
    return base**spec.alpha


def coverage_penalty(coverage: Any, mask: Any, strength: float) -> tf.Tensor:
    """[B, K] from summed attention [B, K, S]: `strength * sum_s log(min(coverage_s, 1))` over real source positions.

    Zero where every source position was attended to, negative otherwise (Wu et al. 2016, eq. 14).
    """
    covered = tf.math.log(tf.clip_by_value(coverage, 1e-6, 1.0))
    return strength * tf.reduce_sum(tf.where(tf.expand_dims(mask, 1), covered, 0.0), axis=2)
