"""What decoders read of a source."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Memory(NamedTuple):
    """An encoded source.

    Attributes:
        values: [B, S, M], what decoders attend to.
        mask: [B, S] bool, True on real positions.
        summary: [B, Q], one vector for the whole source.
        ids: [B, S'] int32, the source's token ids; None where the source has none.
    """

    values: Any
    mask: Any
    summary: Any
    ids: Any = None

    @property
    def lengths(self) -> Any:
        """[B] int32: real positions of each source."""
        return ops.sum(ops.cast(self.mask, "int32"), axis=1)
