"""The loop over positions of a search, with room for what is written at each of them.

A step copies and attends over all the room there is, and most outputs are far shorter than the longest allowed. So the
search runs as a few loops one after the other, each with four times the room of the one before: room for 16 positions,
64, 256 and so on. Within each loop shapes are fixed, as XLA and TFLite want them. A loop whose positions are not needed
does not turn, but the memory for its room is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

FIRST, GROWTH = 16, 4


def loop_with_growing_cache(
    unfinished: Callable[..., Any], body: Callable[..., Any], first: tuple, most: int, length: Any, beam: int
) -> tuple:
    """Turns `body` until `unfinished` says no or `length` positions are written.

    Args:
        unfinished: of the loop's variables.
        body: of the room, a scalar number of positions, and the loop's variables; returns these anew.
        first: the variables: the index of the position to write first of all, and among the others a cache
            {"state": ..., "history": ...} whose history is widened to [..., room * beam, width] before each loop.
        most: positions there usually are at most.
        length: scalar, positions there are at most here; a forced prefix can make it more than `most`.
        beam: slots of each position.
    """
    capacities = [length]
    if any(tf.nest.flatten(part["history"]) for part in first if _is_cache(part)):
        size = FIRST
        while size < most:
            capacities.insert(-1, tf.minimum(size, length))
            size *= GROWTH
    variables = first
    for capacity in capacities:
        variables = tuple(_widened(part, capacity * beam) if _is_cache(part) else part for part in variables)

        def turns(index: Any, *others: Any, capacity: Any = capacity) -> tf.Tensor:
            return tf.logical_and(index < capacity, unfinished(index, *others))

        def turn(index: Any, *others: Any, capacity: Any = capacity, before: tuple = variables) -> tuple:
            return _keep_shapes(before, body(capacity, index, *others))

        variables = tf.while_loop(turns, turn, variables)
    return variables


def _is_cache(part: Any) -> bool:
    return isinstance(part, dict) and "history" in part


def _widened(cache: dict[str, Any], slots: Any) -> dict[str, Any]:
    def widen(entries: Any) -> tf.Tensor:
        leading = [[0, 0]] * (entries.shape.rank - 2)
        # Before the first loop there may be more room than it needs, and nothing is written in it.
        entries = entries[..., :slots, :]
        return tf.pad(entries, tf.stack([*leading, [0, slots - tf.shape(entries)[-2]], [0, 0]]))

    return {"state": cache["state"], "history": tf.nest.map_structure(widen, cache["history"])}


def _keep_shapes(before: Any, after: Any) -> Any:
    """`after`, with what the loop knows of the shapes of its variables, which operations on part of them forget."""

    def keep(old: Any, new: Any) -> Any:
        new.set_shape(old.shape)
        return new

    return tf.nest.map_structure(keep, before, after)
