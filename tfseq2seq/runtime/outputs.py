"""What every way of generating gives back; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """The outputs for one input, best first: texts, scores they are ranked by, log-probabilities in nats."""

    texts: list[str]
    scores: list[float]
    log_probs: list[float]

    @classmethod
    def nothing(cls, count: int) -> Output:
        """What comes of an input with nothing in it."""
        return cls([""] * count, [0.0] * count, [0.0] * count)
