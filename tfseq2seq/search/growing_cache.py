"""The loop of a search over output positions, with a cache whose capacity grows.

A step copies and attends over the full capacity of the cache, but most outputs are far shorter than the maximum length.
The search therefore runs as a sequence of loops with capacities of 16, 64, 256, ... positions; each has four times the
capacity of the one before. Shapes are fixed within each loop, as XLA and TFLite require. A loop whose positions are not
needed has no iterations, but the memory for its capacity is allocated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

FIRST_CAPACITY, GROWTH_FACTOR = 16, 4


def loop_with_growing_cache(
    unfinished: Callable[..., Any], body: Callable[..., Any], first: tuple, max_length: int, length: Any, beam: int
) -> tuple:
    """Repeats `body` until `unfinished` returns false or `length` positions are written.

    Args:
        unfinished: maps the loop variables to a scalar bool.
        body: maps the capacity, a scalar number of positions, and the loop variables to the next loop variables.
        first: the initial loop variables. The first one is the index of the position to write. One of the others is a
            cache {"state": ..., "history": ...}. Its history is padded to [..., capacity * beam, width] before each
            loop.
        max_length: the maximum number of positions without a forced prefix. It determines the number of loops.
        length: scalar, the maximum number of positions. A forced prefix can make it larger than `max_length`.
        beam: the number of slots per position.
    """
    capacities = [length]
    if any(tf.nest.flatten(part["history"]) for part in first if _is_cache(part)):
        size = FIRST_CAPACITY
        while size < max_length:
            capacities.insert(-1, tf.minimum(size, length))
            size *= GROWTH_FACTOR
    variables = first
    for capacity in capacities:
        variables = tuple(widened(part, capacity * beam) if _is_cache(part) else part for part in variables)

        def condition(index: Any, *others: Any, capacity: Any = capacity) -> tf.Tensor:
            return tf.logical_and(index < capacity, unfinished(index, *others))

        def next_position(index: Any, *others: Any, capacity: Any = capacity, before: tuple = variables) -> tuple:
            return _keep_shapes(before, body(capacity, index, *others))

        variables = tf.while_loop(condition, next_position, variables)
    return variables


def _is_cache(part: Any) -> bool:
    return isinstance(part, dict) and "history" in part


def widened(cache: dict[str, Any], slots: Any) -> dict[str, Any]:
    """Returns a cache {"state": ..., "history": ...} whose history has room for a number of slots, [..., slots, width].

    New slots are zero.
    """

    def widen(entries: Any) -> tf.Tensor:
        leading = [[0, 0]] * (entries.shape.rank - 2)
        # The initial cache may have a larger capacity than the first loop. Nothing is written in it yet.
        entries = entries[..., :slots, :]
        return tf.pad(entries, tf.stack([*leading, [0, slots - tf.shape(entries)[-2]], [0, 0]]))

    return {"state": cache["state"], "history": tf.nest.map_structure(widen, cache["history"])}


def _keep_shapes(before: Any, after: Any) -> Any:
    """Returns `after` with the static shapes of `before`. Operations of the loop body lose some of them."""

    def keep(old: Any, new: Any) -> Any:
        new.set_shape(old.shape)
        return new

    return tf.nest.map_structure(keep, before, after)
