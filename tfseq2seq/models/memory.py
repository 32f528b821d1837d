"""The memory: the result of an encoder and the input of decoders."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Memory(NamedTuple):
    """An encoded source.

    Attributes:
        values: [B, S, M], the vectors for cross-attention.
        mask: [B, S] bool, True on real positions.
        summary: [B, Q], one vector for the whole source.
        ids: [B, S'] int32, the token ids of the source, or None if the source has none.
        copy_ids: [B, S] int32, the target id of each source token, for decoders that copy; None for others. See
            `layers/copying.py`.
    """

    values: Any
    mask: Any
    summary: Any
    ids: Any = None
    copy_ids: Any = None

    @property
    def lengths(self) -> Any:
        """[B] int32, the number of real positions of each source."""
        return ops.sum(ops.cast(self.mask, "int32"), axis=1)
