"""Training a language model to fill in the middle of a text (Bavarian et al. 2022).

A share of the texts is rearranged: what stands before the middle, what stands behind it, and then the middle, each
after a reserved token ("PSM"). The borders are drawn between tokens, each place with equal probability.

    a b c d <eos>  ->  <pre> a <suf> d <mid> b c <eos>
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfseq2seq.data.segments import Table
from tfseq2seq.spec import PAD

_FIELD = "target"


class Infilling:
    """Rearranges texts of batches.

    Args:
        share: the share of the texts that are rearranged.
        tokens: the ids of <pre>, <suf> and <mid>.
        most: the most tokens of an example. A text that would be longer stays as it is.
    """

    def __init__(self, share: float, tokens: Sequence[int], most: int):
        self.share, self.tokens, self.most = share, tuple(tokens), most

    def measured(self, table: Table) -> Table:
        """A table whose lengths have room for the reserved tokens."""
        longer = table.lengths + len(self.tokens)
        return dataclasses.replace(table, lengths=np.where(longer > self.most, table.lengths, longer))

    def __call__(self, batch: Mapping[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        """The batch with some of its texts rearranged. `random` alone decides which, and where their borders are."""
        rows = [self._row(row[row != PAD], random) for row in batch[_FIELD]]
        width = max((len(row) for row in rows), default=0)
        padded = np.full((len(rows), width), PAD, batch[_FIELD].dtype)
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = row
        return {**batch, _FIELD: padded}

    def _row(self, row: np.ndarray, random: np.random.Generator) -> np.ndarray:
        chosen = random.random() < self.share
        first, last = sorted(random.integers(0, len(row), size=2))
        if not chosen or len(row) + len(self.tokens) > self.most:
            return row
        before, suffix, middle = self.tokens
        text, end = row[:-1], row[-1:]
        parts = [[before], text[:first], [suffix], text[last:], [middle], text[first:last], end]
        return np.concatenate([np.asarray(part, row.dtype) for part in parts])
