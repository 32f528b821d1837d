"""Weights that a training leaves as they are."""

from __future__ import annotations

from typing import Any


def leave(variable: Any) -> None:
    """Makes a variable one that no training changes, and that no gradient is computed for."""
    variable.trainable = False
    variable.frozen = True


def is_left(variable: Any) -> bool:
    """Returns whether `leave` was called for the variable. Others that are not trained, such as seeds, may change."""
    return getattr(variable, "frozen", False)
