"""Comparison of two systems by paired bootstrap resampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfseq2seq.errors import UserError
from tfseq2seq.evaluation.bootstrap import confidence_interval, p_value
from tfseq2seq.evaluation.metrics import LOWER_IS_BETTER, Settings, check_metric, count
from tfseq2seq.evaluation.references import ReferenceSets, accepted_references, check_hypotheses
from tfseq2seq.evaluation.scores import Score, score


@dataclass(frozen=True)
class Comparison:
    """The comparison of two outputs for the same test set with one metric.

    Attributes:
        system: Score of the system, with its interval.
        baseline: Score of the baseline, with its interval.
        difference: system - baseline, in points. For an error rate, a negative difference is an improvement.
        low: Lower end of the 95 % bootstrap confidence interval of the difference.
        high: Upper end.
        p_value: Two-sided p-value of "there is no difference"; see `compare`.
        lower_is_better: Whether the metric is an error rate.
    """

    system: Score
    baseline: Score
    difference: float
    low: float
    high: float
    p_value: float
    lower_is_better: bool

    def __str__(self) -> str:
        better = "lower" if self.lower_is_better else "higher"
        return (
            f"{self.system.name} {self.system.value:.2f} against {self.baseline.value:.2f}: difference = "
            f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}], p = {self.p_value:.4f}, "
            f"{better} is better ({self.system.signature})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


def compare(
    system: Sequence[str],
    baseline: Sequence[str],
    references: ReferenceSets,
    metric: str,
    resamples: int = 1000,
    seed: int = 12345,
    tokenize: str = "13a",
    lowercase: bool = False,
    normalize: str = "none",
) -> Comparison:
    """Computes the difference between two outputs by paired bootstrap resampling (Koehn 2004).

    Both outputs are scored on the same resampled test sets. This gives differences d_1 ... d_R with mean m. With d as
    the difference on the whole test set, the two-sided p-value is

        p = (1 + number of r with |d_r - m| >= |d|) / (R + 1)

    It estimates how often chance alone gives a difference at least as large as the observed one. The differences around
    their own mean represent chance (Noreen 1989; Riezler and Maxwell 2005). Identical outputs have p = 1, and p is
    never below 1 / (R + 1). sacrebleu's paired bootstrap uses |d_r| minus the mean of |d_r| instead of d_r - m, which
    makes it in effect one-sided. It also uses "> |d|", so identical outputs would have p = 1 / (R + 1).

    Args:
        system: Output of the system, one line per example.
        baseline: Output of the baseline, one line per example.
        references: `references[r][i]` as in `corpus_scores`.
        metric: A name from `tfseq2seq.evaluation.metrics.METRICS`.
        resamples: R, the number of resampled test sets.
        seed: Seed of the resampling.
        tokenize: sacrebleu's BLEU tokenizer, as in `corpus_scores`.
        lowercase: Whether to lower-case both sides first.
        normalize: How both sides are normalized first; see `corpus_scores`.

    Raises:
        UserError: The input is empty or has different lengths; the metric or tokenizer is unknown; or there are too few
            resamples.
    """
    check_metric(metric)
    if resamples == 0:
        raise UserError("resamples: must be at least 40 for the paired bootstrap, got 0")
    settings = Settings(tokenize, lowercase, normalize, resamples, seed)
    check_hypotheses("system", system)
    check_hypotheses("baseline", baseline)
    if len(system) != len(baseline):
        raise UserError(
            f"system and baseline: must have the same number of lines, got {len(system)} and {len(baseline)}"
        )
    accepted = accepted_references(system, references)
    counted = count(metric, system, accepted, settings)
    if not counted.resampled:
        raise UserError(f"metric {metric!r} is not a mean over examples and cannot be resampled; choose another")
    ours, ours_sampled = score(counted, settings)
    theirs, theirs_sampled = score(count(metric, baseline, accepted, settings), settings)
    difference = ours.value - theirs.value
    differences = ours_sampled - theirs_sampled
    low, high = confidence_interval(differences)
    by_chance = p_value(difference, differences)
    return Comparison(ours, theirs, difference, low, high, by_chance, metric in LOWER_IS_BETTER)
