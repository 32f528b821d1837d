"""Patterns of the paths of layers and weights, as of file names: "encoder/*" is all that is in the encoder."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def path_groups(paths: Iterable[str]) -> set[str]:
    """The patterns of all that is in each layer that paths lead through."""
    return {f"{path.rsplit('/', depth)[0]}/*" for path in paths for depth in range(1, path.count("/") + 1)}


def near_patterns(pattern: str, paths: Iterable[str], cutoff: float = 0.0) -> list[str]:
    """Returns up to three paths or groups of them that are the nearest to a pattern, for a message.

    Args:
        pattern: that matches nothing.
        paths: that there are.
        cutoff: how alike they must be, from 0 to 1; see `difflib.get_close_matches`.
    """
    known = set(paths)
    return difflib.get_close_matches(pattern, sorted(known | path_groups(known)), n=3, cutoff=cutoff)
