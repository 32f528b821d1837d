"""Masks are boolean, True where a position may be attended to; a bias is a mask as attention adds it to scores."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.spec import PAD


def padding_mask(ids: Any) -> Any:
    """[B, S] ids to [B, S] bool: True on real tokens."""
    return ops.not_equal(ids, PAD)


def length_mask(lengths: Any, size: Any) -> Any:
    """Lengths [B] to [B, size] bool: True up to each length."""
    return ops.expand_dims(ops.arange(size, dtype="int32"), 0) < ops.expand_dims(ops.cast(lengths, "int32"), 1)


def chunk_mask(length: Any, chunk: int, left: int) -> Any:
    """[1, T, T] bool: position t sees its own chunk of so many positions, and the `left` chunks before it."""
    chunks = ops.arange(length, dtype="int32") // chunk
    ahead = ops.expand_dims(ops.expand_dims(chunks, 1) - ops.expand_dims(chunks, 0), 0)
    return ops.logical_and(ahead >= 0, ahead <= left)


def causal_mask(length: Any) -> Any:
    """[1, T, T] bool: position t sees positions up to and including t."""
    indices = ops.arange(length, dtype="int32")
    return ops.expand_dims(ops.expand_dims(indices, 1) >= ops.expand_dims(indices, 0), 0)


def attention_bias(mask: Any, dtype: str | None = None) -> Any:
    """A mask as 0 where allowed and a large negative number elsewhere, finite so that a row without any allowed
    position gives a uniform distribution and not NaN."""
    dtype = dtype or keras.config.floatx()
    lowest = -6e4 if dtype == "float16" else -1e9
    return ops.where(mask, ops.cast(0.0, dtype), ops.cast(lowest, dtype))


def masked_mean(inputs: Any, mask: Any) -> Any:
    """[B, S, D] and [B, S] to [B, D]: the mean over real positions."""
    weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
    return ops.sum(inputs * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)
