"""Successive halving: how long a trial trains before it is compared, and whether it goes on.

Jamieson and Talwalkar 2016; in the order of arrival as in Li et al. 2020 (ASHA).
"""

from __future__ import annotations

from collections.abc import Sequence

# Of so many rungs the last one is the end of the training.
_RUNGS = 3


def rungs_of(steps: int, evaluate_every: int, reduction: int) -> list[int]:
    """Returns the training steps at which trials are compared, and the last step.

    Each is an evaluation. One is `reduction` times as late as the one before it.

    Args:
        steps: the number of training steps of a whole trial.
        evaluate_every: the number of steps from one evaluation to the next.
        reduction: of so many trials one goes on at each rung; 1 compares trials only at the end.
    """
    if reduction == 1:
        return [steps]
    early = [-(-steps // (reduction**power * evaluate_every)) * evaluate_every for power in range(_RUNGS - 1, 0, -1)]
    return [*sorted({rung for rung in early if rung < steps}), steps]


def goes_on(score: float, scores: Sequence[float], reduction: int, lower_is_better: bool) -> bool:
    """Returns whether a trial is among the best one in `reduction` at a rung. The best trial always is.

    Args:
        score: the score of the trial.
        scores: the scores of all trials that have come to the rung, with this one.
        reduction: of so many trials one goes on.
        lower_is_better: whether a lower score is better.
    """
    better = sum(other < score if lower_is_better else other > score for other in scores)
    return better < max(len(scores) // reduction, 1)
