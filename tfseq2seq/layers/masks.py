"""Attention masks. A mask is True at positions that attention can see. A bias is a mask as numbers to add to scores."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfseq2seq.spec import PAD


def padding_mask(ids: Any) -> Any:
    """Returns [B, S] bool for ids [B, S]: True on real tokens."""
    return ops.not_equal(ids, PAD)


def length_mask(lengths: Any, size: Any) -> Any:
    """Returns [B, size] bool for lengths [B]: True at indices below the length."""
    return ops.expand_dims(ops.arange(size, dtype="int32"), 0) < ops.expand_dims(ops.cast(lengths, "int32"), 1)


def chunk_mask(length: Any, chunk: int, left: int) -> Any:
    """Returns [1, T, T] bool: position t sees its own chunk of `chunk` positions and the `left` chunks before it."""
    chunks = ops.arange(length, dtype="int32") // chunk
    distances = ops.expand_dims(ops.expand_dims(chunks, 1) - ops.expand_dims(chunks, 0), 0)
    return ops.logical_and(distances >= 0, distances <= left)


def causal_mask(length: Any) -> Any:
    """Returns [1, T, T] bool: position t sees positions 0 to t."""
    indices = ops.arange(length, dtype="int32")
    return ops.expand_dims(ops.expand_dims(indices, 1) >= ops.expand_dims(indices, 0), 0)


def attention_bias(mask: Any, dtype: str | None = None) -> Any:
    """Returns the bias of a mask: 0 where it is True, and a large negative number elsewhere.

    The number is finite. In a row without True the softmax is therefore uniform and not NaN.
    """
    dtype = dtype or keras.config.floatx()
    lowest = -6e4 if dtype == "float16" else -1e9
    return ops.where(mask, ops.cast(0.0, dtype), ops.cast(lowest, dtype))


def masked_mean(inputs: Any, mask: Any) -> Any:
    """Returns the mean [B, D] over the real positions of inputs [B, S, D] with mask [B, S]."""
    weights = ops.expand_dims(ops.cast(mask, inputs.dtype), -1)
    return ops.sum(inputs * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)
