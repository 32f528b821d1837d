"""Bootstrap resampling of a test set from per-example statistics (Efron and Tibshirani 1993; Koehn 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# The maximum number of draws in memory at a time: 32 MB of counts.
_CHUNK = 4_000_000


def resampled_sums(statistics: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums the statistics over test sets of the same size that are drawn with replacement.

    The draws depend only on the seed and the number of examples. They are equal to sacrebleu's draws.

    Args:
        statistics: `[N, C]` float64, C additive statistics of each of N examples.
        resamples: R, the number of test sets to draw.
        seed: Seed of `numpy.random.default_rng`.

    Returns:
        `[R, C]` float64.
    """
    import numpy as np

    examples = len(statistics)
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // examples)
    sums = [np.zeros((0, statistics.shape[1]))]
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.choice(examples, size=(size, examples), replace=True)
        # The counts [size, N] of each example allow one matrix product instead of gathering [size, N, C].
        drawn += np.arange(size)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=size * examples).reshape(size, examples)
        sums.append(counts @ statistics)
    return np.concatenate(sums)


def confidence_interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % percentile interval of resampled values `[R]`.

    As in sacrebleu, R // 40 values are cut off at each end.
    """
    import numpy as np

    ordered = np.sort(values)
    cut = len(ordered) // 40
    return float(ordered[cut]), float(ordered[len(ordered) - cut - 1])


def p_value(difference: float, resampled: np.ndarray) -> float:
    """Returns the two-sided p-value of "there is no difference", (1 + number of r with |d_r - m| >= |d|) / (R + 1).

    Args:
        difference: d, on the whole test set.
        resampled: `[R]`, the differences d_1 ... d_R on resampled sets, with the mean m.
    """
    import numpy as np

    # The margin keeps differences equal that differ by rounding.
    by_chance = np.abs(resampled - resampled.mean()) >= abs(difference) - 1e-9
    return (1 + int(by_chance.sum())) / (len(resampled) + 1)
