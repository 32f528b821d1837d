"""Rows of different lengths as one array; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def padded_rows(rows: Sequence[np.ndarray], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N] each as [B, longest N], zeros behind their ends, and their lengths [B] int32."""
    lengths = np.array([len(row) for row in rows], "int32")
    values = np.zeros((len(rows), lengths.max(initial=0)), dtype)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
    return values, lengths
