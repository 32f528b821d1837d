"""The best entries of large rows, and what their logits are normalized by, several times faster over a vocabulary on a
CPU than `tf.math.top_k` and `tf.reduce_logsumexp`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def log_normalizer(logits: Any, tokens: Any) -> tf.Tensor:
    """[..., 1] logarithms of the sum of exponentials of logits [..., V], float32.

    The library's softmax is one fused pass where the sum takes four; a token's logit and probability tell the rest.

    Args:
        tokens: [..., 1], of each row the place of the largest logit.
    """
    batch_dims = logits.shape.rank - 1
    probabilities = tf.gather(tf.nn.softmax(logits), tokens, batch_dims=batch_dims)
    return tf.gather(logits, tokens, batch_dims=batch_dims) - tf.math.log(probabilities)


def at_most(k: int, rows: Any) -> int:
    """k, or V of [..., V] where that is less; a V that is not known is that of a shortlist, which has enough."""
    return k if rows.shape[-1] is None else min(k, rows.shape[-1])


def top_k(rows: Any, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The k largest of [..., V] and their places, best first. Equal values come in no particular order.

    The row is cut into groups. The k largest stand in the k groups with the largest maxima, so a row is read once for
    the maxima, and sorting sees only k groups.
    """
    size = rows.shape[-1]
    if size is None:  # a shortlist, which is short
        return tf.math.top_k(rows, k)
    height = _group_size(size, k)
    count = -(-size // height)
    if height == 1 or count <= 2 * k:
        return tf.math.top_k(rows, k)
    batch_dims = rows.shape.rank - 1
    leading = tf.shape(rows)[:-1]
    if count * height > size:
        rows = tf.pad(
            rows,
            [[0, 0]] * batch_dims + [[0, count * height - size]],
            constant_values=rows.dtype.as_numpy_dtype("-inf"),
        )
    # Group g holds the entries g, g + count, g + 2 * count, ...: maxima down a matrix are faster than along its rows.
    grouped = tf.reshape(rows, tf.concat([leading, [height, count]], axis=0))
    _, groups = tf.math.top_k(tf.reduce_max(grouped, axis=-2), k)
    candidates = tf.gather(grouped, groups, axis=-1, batch_dims=batch_dims)
    values, indices = tf.math.top_k(tf.reshape(candidates, tf.concat([leading, [height * k]], axis=0)), k)
    column = tf.gather(groups, indices % k, batch_dims=batch_dims)
    return values, indices // k * count + column


def _group_size(size: int, k: int) -> int:
    """Entries in a group. With h in each, size / h + k * h are sorted: least at h = sqrt(size / k). Near it, a divisor
    of the size is better: nothing has to be filled up."""
    best = max(int((size / k) ** 0.5), 1)
    near = [height for height in range(max(best // 2, 1), 2 * best + 1) if size % height == 0]
    return min(near, key=lambda height: abs(height - best), default=best)
