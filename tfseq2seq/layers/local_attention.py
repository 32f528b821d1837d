"""Self-attention of long inputs in bounded memory: in windows, with global first positions (Beltagy et al. 2020).

A position attends to `window` positions on each side and to the first `global_positions`, which attend to all. The
input is cut into blocks of `window` positions. A block attends to itself and its two neighbors, so time and memory grow
with S * window and not with S * S:

    queries [B, H, N, W, d]    keys of three blocks [B, H, N, 3 W, d]    scores [B, H, N, W, 3 W]
"""

from __future__ import annotations

from typing import Any

from keras import ops

from tfseq2seq.layers.attention import MultiHeadAttention

_LOWEST = -1e9


class LocalAttention(MultiHeadAttention):
    """Multi-head self-attention in a window. The weights are those of `MultiHeadAttention`.

    Where the window covers the input, the result is that of `MultiHeadAttention`.

    Args:
        width: D, the width of queries and output.
        heads: H, the number of heads.
        window: W, the number of positions that a position sees on each side, at least 1.
        global_positions: the number of first positions that all positions see, and that see all positions.
        options: further arguments of `MultiHeadAttention`. Positions are not "relative", and there is no memory.
    """

    def __init__(self, width: int, heads: int, window: int, global_positions: int = 0, **options: Any):
        super().__init__(width, heads, **options)
        self.window, self.global_positions = window, global_positions

    def call(
        self,
        queries: Any,
        keys: Any,
        values: Any,
        bias: Any,
        query_positions: Any = None,
        key_positions: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Attends from queries [B, H, S, d] to keys and values [B, G, S, d] of the same positions.

        Args:
            bias: [B, 1, S], from `attention_bias` of the mask of the input.
            query_positions, key_positions: as in `MultiHeadAttention`; not used.

        Returns:
            Output [B, S, D], and None in place of weights.
        """
        length, shared = ops.shape(queries)[2], self.heads // self.groups
        scaled = queries * self.head_width**-0.5
        keys, values = (ops.repeat(each, shared, axis=1) for each in (keys, values))
        real = ops.expand_dims(bias > -1.0, 1)  # [B, 1, 1, S]
        context = self._in_windows(scaled, keys, values, real, length, training)
        if self.global_positions:
            first = scaled[:, :, : self.global_positions]
            scores = ops.matmul(first, ops.swapaxes(keys, -1, -2))
            weights = self._weights([(scores, real)], training)[0]
            context = ops.concatenate([ops.matmul(weights, values), context[:, :, self.global_positions :]], axis=2)
        merged = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, length, self.heads * self.head_width))
        return self.output_dense(merged), None

    def _in_windows(self, queries: Any, keys: Any, values: Any, real: Any, length: Any, training: bool | None) -> Any:
        """Returns the context [B, H, S, d] of all positions, each in its window and at the global positions."""
        window, first = self.window, self.global_positions
        count = (length + window - 1) // window
        rest = count * window - length
        blocks = ops.reshape(_padded(queries, 0, rest), (-1, self.heads, count, window, self.head_width))
        near_keys, near_values = (self._neighbors(each, count, rest) for each in (keys, values))
        near_real = self._neighbors(ops.expand_dims(ops.cast(real[:, :, 0], "int32"), -1), count, rest)
        seen = ops.logical_and(ops.swapaxes(near_real, -1, -2) > 0, self._near(count))
        near = (ops.matmul(blocks, ops.swapaxes(near_keys, -1, -2)), seen)
        if not first:
            return self._joined(ops.matmul(self._weights([near], training)[0], near_values), length)
        far_scores = ops.matmul(queries, ops.swapaxes(keys[:, :, :first], -1, -2))
        size = ops.shape(far_scores)[3]
        far_scores = ops.reshape(_padded(far_scores, 0, rest), (-1, self.heads, count, window, size))
        far = (far_scores, ops.expand_dims(real[..., :first], 2))
        near_weights, far_weights = self._weights([near, far], training)
        far_values = ops.expand_dims(values[:, :, :first], 2)
        return self._joined(ops.matmul(near_weights, near_values) + ops.matmul(far_weights, far_values), length)

    def _neighbors(self, inputs: Any, count: Any, rest: Any) -> Any:
        """Returns [B, H, N, 3 W, d] of inputs [B, H, S, d]: each block of W positions with the blocks beside it."""
        window, heads, width = self.window, inputs.shape[1], inputs.shape[3]
        padded = _padded(inputs, window, rest + window)
        blocks = ops.reshape(padded, (-1, heads, count + 2, window, width))
        return ops.concatenate([blocks[:, :, :-2], blocks[:, :, 1:-1], blocks[:, :, 2:]], axis=3)

    def _near(self, count: Any) -> Any:
        """Returns [N, W, 3 W] bool: whether a key of three blocks is in the window, and is no global position."""
        window = self.window
        queries, keys = ops.arange(window, dtype="int32"), ops.arange(3 * window, dtype="int32") - window
        inside = ops.abs(ops.expand_dims(keys, 0) - ops.expand_dims(queries, 1)) <= window
        positions = ops.expand_dims(ops.arange(count, dtype="int32") * window, 1) + ops.expand_dims(keys, 0)
        others = ops.expand_dims(positions >= self.global_positions, 1)
        return ops.logical_and(ops.expand_dims(inside, 0), others)

    def _weights(self, parts: list[tuple[Any, Any]], training: bool | None) -> list[Any]:
        """Returns the attention weights of parts of the keys: pairs of scores and whether a query sees a key."""
        scores = [ops.where(seen, ops.cast(each, "float32"), _LOWEST) for each, seen in parts]
        weights = ops.softmax(ops.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0], axis=-1)
        weights = self.dropout(ops.cast(weights, parts[0][0].dtype), training=training)
        if len(parts) == 1:
            return [weights]
        first = 3 * self.window
        return [weights[..., :first], weights[..., first:]]

    def _joined(self, blocks: Any, length: Any) -> Any:
        """Returns [B, H, S, d] of blocks [B, H, N, W, d]."""
        joined = ops.reshape(blocks, (-1, self.heads, ops.shape(blocks)[2] * self.window, self.head_width))
        return joined[:, :, :length]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "global_positions": self.global_positions}


def _padded(inputs: Any, before: Any, after: Any) -> Any:
    """Pads inputs [B, H, S, d] with zeros along S."""
    return ops.pad(inputs, ((0, 0), (0, 0), (before, after), (0, 0)))
