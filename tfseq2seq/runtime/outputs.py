"""What every way of generating gives back; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """The outputs for one input, best first: texts, scores they are ranked by, log-probabilities in nats.

    `cut` tells whether the best one is as long as the search allows, so that its end may be missing.
    """

    texts: list[str]
    scores: list[float]
    log_probs: list[float]
    cut: bool = False

    @classmethod
    def nothing(cls, count: int) -> Output:
        """What comes of an input with nothing in it."""
        return cls([""] * count, [0.0] * count, [0.0] * count)


def length_limit(max_length: int, max_ratio: float) -> str:
    """Returns the settings of a search that limit the length of outputs, for messages."""
    return f"search.max_length={max_length}" + (f" or search.max_ratio={max_ratio:g}" if max_ratio else "")


def cut_warnings(cut: Iterable[bool], limit: str, remedy: str, noun: str = "outputs") -> list[str]:
    """Returns a line with the number of outputs that may have been cut off; none if there are no such outputs.

    Args:
        cut: of each output.
        limit: from `length_limit`.
        remedy: what lets outputs be longer.
        noun: what is counted.
    """
    count = total = 0
    for one in cut:
        count, total = count + one, total + 1
    if not count:
        return []
    return [f"{count:,} of {total:,} {noun} reached {limit} and may be cut; {remedy}"]
