"""The swap test: does a model of dialogues use what was said before?

The log-probability of the true answers is computed with their own contexts, and with contexts in which turns of another
dialogue stand in place of the own ones. It must fall: a model that ignores its context gives the same.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.bootstrap import confidence_interval, p_value, resampled_sums

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class SwapTest:
    """The log-probability of answers with their own and with other contexts, in nats per token.

    Attributes:
        name: what was swapped, "context" or "history".
        own, swapped: with the own contexts and with others.
        difference: swapped - own. Below 0, the model uses what was swapped.
        low, high: the ends of its 95 % bootstrap confidence interval.
        p_value: two-sided p-value of "there is no difference"; see `swap_test`.
        answers: the number of answers.
    """

    name: str
    own: float
    swapped: float
    difference: float
    low: float
    high: float
    p_value: float
    answers: int

    def __str__(self) -> str:
        return (
            f"swap of the {self.name}: log-probability {self.own:.4f} with the own one and {self.swapped:.4f} with "
            f"that of another dialogue, in nats per token; "
            f"difference = {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], "
            f"p = {self.p_value:.4f} ({self.answers:,} answers)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary for JSON."""
        return asdict(self)


def partners(sizes: Sequence[int], dialogues: Sequence[int], seed: int) -> list[int]:
    """Draws for each example one of another dialogue, with as many turns where there is one.

    Args:
        sizes: [N] the numbers of turns.
        dialogues: [N] the numbers of the dialogues that examples are of.
        seed: of the draws.

    Raises:
        UserError: all examples are of one dialogue.
    """
    if len(set(dialogues)) < 2:
        raise UserError("--swap: must have examples of at least two dialogues to swap turns between them")
    draw = random.Random(f"swap {seed}")
    groups: dict[int, list[int]] = collections.defaultdict(list)
    for index, size in enumerate(sizes):
        groups[size].append(index)
    everything = list(range(len(sizes)))

    def other(index: int) -> int:
        group = groups[sizes[index]]
        if all(dialogues[each] == dialogues[index] for each in group):
            group = everything
        while dialogues[found := draw.choice(group)] == dialogues[index]:
            pass
        return found

    return [other(index) for index in everything]


def swap_test(
    name: str,
    own: np.ndarray,
    swapped: np.ndarray,
    tokens: np.ndarray,
    resamples: int = 1000,
    seed: int = 12345,
) -> SwapTest:
    """Compares log-probabilities by paired bootstrap resampling.

    The same resampled sets of answers are scored with both contexts; see `bootstrap.p_value`.

    Args:
        name: what was swapped.
        own: [N] log-probabilities of answers with their own contexts, in nats.
        swapped: [N] those with others.
        tokens: [N] the numbers of tokens of the answers.
        resamples: R, at least 40.
        seed: of the resampling.

    Raises:
        UserError: there are too few resamples.
    """
    import numpy as np

    if resamples < 40:
        raise UserError(f"bootstrap resamples: must be at least 40 for a 95 % interval, got {resamples}")
    statistics = np.stack([own, swapped, tokens], axis=1).astype("float64")
    first, second, count = statistics.sum(0)
    sums = resampled_sums(statistics, resamples, seed)
    differences = (sums[:, 1] - sums[:, 0]) / sums[:, 2]
    difference = (second - first) / count
    low, high = confidence_interval(differences)
    by_chance = p_value(difference, differences)
    own_mean, swapped_mean = float(first / count), float(second / count)
    return SwapTest(name, own_mean, swapped_mean, float(difference), low, high, by_chance, len(statistics))
